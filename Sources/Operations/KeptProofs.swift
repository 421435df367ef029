// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import JobModel
import LinuxSystem
import Repository
import SystemPackage

/// The proofs of images and snapshots: with the snapshot in its repository, or beside the image file.
package enum KeptProofs {
    /// Stores a proof.
    /// - Parameter image: the image file or snapshot, by its exact name (`OpenedImage.exactText`).
    /// - Returns: the place, for a message.
    package static func store(_ proof: RestoreProof, for image: String, _ keys: KeyRing) throws -> String {
        if case .snapshot(let address) = try ImageAddress.parse(image, .thisMachine) {
            let (repository, lock) = try OpenedRepository.open(address.repository, keys, .restore)
            defer { lock.release() }
            try repository.store(proof) { () throws(ImageError) in try lock.confirm() }
            return address.repository
        }
        let opened = try OpenedImage.open(image, keys, scratch: .none)
        guard let path = opened.path, let id = opened.ending?.id else {
            throw JobFailure(
                .usage,
                "\(image) has no id that is known without reading all of it: a proof is kept with images of "
                    + "Reforge and with snapshots only")
        }
        guard proof.facts.imageID == id.description else {
            throw JobFailure(.badImage, "\(image) is another image than the one that was tried")
        }
        let coding = opened.reader.coding
        // What the files show would not be encrypted.
        let kept = coding.isEncrypted ? proof.withoutAttachments : proof
        let files = ProofFiles(beside: path)
        try files.write(kept, try keys.signingIdentity(path, coding))
        return files.facts.string
    }

    /// The last proof of an opened image or snapshot; `nil` if there is none.
    /// - Throws: for a damaged proof.
    package static func last(of opened: OpenedImage, _ keys: KeyRing) throws -> RestoreProof? {
        guard let id = opened.ending?.id else { return nil }
        guard opened.snapshot == nil else {
            guard let exact = opened.exactText,
                case .snapshot(let address) = try ImageAddress.parse(exact, .thisMachine)
            else { return nil }
            return try OpenedRepository.open(address.repository, keys).lastProof(of: id)
        }
        guard let path = opened.path else { return nil }
        return try ProofFiles(beside: path).read(
            of: id, try keys.signingIdentity(path, opened.reader.coding))
    }
}

extension RestoreProof.Facts {
    /// The proof in one line.
    package var line: String {
        let what =
            switch verdict {
            case .proven: "proven"
            case .started: "started, not proven"
            case .notProven: "not proven"
            }
        return "\(what) at \(made.printable) after \(seconds) s: \(sign.printable) (\(firmware.printable), QEMU "
            + "\(qemuVersion.printable))"
    }

    /// The proof in a column of a list.
    package var cell: String { "\(verdict.rawValue) \(made.prefix(10).description.printable)" }
}
