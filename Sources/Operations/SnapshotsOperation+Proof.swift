// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import JobModel
import LinuxSystem
import Repository
import SystemPackage

extension SnapshotsOperation {
    /// The saved proof of a snapshot.
    package struct SavedProof: Encodable {
        package let schema = 1
        package var snapshot: String
        package var proof: RestoreProof.Facts
        /// The written files.
        package var files: [String]
    }

    /// Saves the last proof of a snapshot, with its picture and log, in a folder.
    /// - Throws: `JobFailure` if there is none, or the folder holds such files already.
    package func saveProof(in folder: String) throws -> SavedProof {
        try events.reporting("snapshots", keys.cancellation, outcome: { _ in Outcome(.done) }) {
            guard case .snapshot(let address) = try ImageAddress.parse(job.repository, .thisMachine),
                address.choice != .repository
            else {
                throw JobFailure(
                    .usage, "--save-proof saves the proof of one snapshot: \(SnapshotAddress.forms), after REPO@")
            }
            let files = ProofFiles(in: FilePath(folder))
            if let existing = files.existing {
                throw JobFailure(.cannotCreate, "\(existing) exists already: name an empty folder")
            }
            let repository = try OpenedRepository.open(address.repository, keys)
            let snapshot = try OpenedRepository.find(address, in: repository, events)
            guard let proof = try repository.lastProof(of: snapshot.info.id) else {
                throw JobFailure(
                    .notFound, "\(job.repository) has no proof yet: `reforge prove \(job.repository)` makes one")
            }
            try Files.makeFolders(FilePath(folder))
            return SavedProof(
                snapshot: snapshot.info.id.description, proof: proof.facts,
                files: try files.write(proof, repository.identity).map(\.string))
        }
    }
}
