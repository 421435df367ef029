// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import JobModel
import LinuxSystem
import Repository
import SystemPackage

/// Lists the snapshots of a repository.
package final class SnapshotsOperation {
    let job: SnapshotsJob
    let keys: KeyRing
    let events: any EventSink

    /// The snapshots of a repository.
    package struct Findings: Encodable {
        package struct Item: Encodable {
            package var id: String
            package var host: String
            package var disk: String
            package var started: String
            package var ended: String
            package var usedByteCount: UInt64
            package var addedByteCount: UInt64
            package var tags: [String]
            /// What trial restores showed, oldest first.
            package var proofs: [RestoreProof.Facts]

            fileprivate init(_ info: SnapshotInfo, _ proofs: [RestoreProof.Facts]) {
                id = info.id.description
                (host, disk, tags) = (info.host, info.disk, info.tags)
                (started, ended) = (info.started, info.ended)
                self.proofs = proofs
                (usedByteCount, addedByteCount) = (info.usedByteCount, info.addedByteCount)
            }
        }
        package struct Damaged: Encodable {
            package var name: String
            package var error: String
        }
        package let schema = 1
        package var repository: String
        /// Oldest first.
        package var snapshots: [Item]
        /// The snapshots and proofs that cannot be read; `host` and `tag` of the job do not filter them.
        package var damaged: [Damaged]

        package var outcome: Outcome { Outcome(damaged.isEmpty ? .done : .badImage) }
    }

    /// - Parameter keys: the job's passwords.
    package init(_ job: SnapshotsJob, keys: KeyRing, events: any EventSink) {
        self.job = job
        self.keys = keys
        self.events = events
    }

    /// Reads every snapshot's manifest, without a lock.
    /// - Throws: `JobFailure` or an error of the engines.
    package func run() throws -> Findings {
        try events.reporting("snapshots", keys.cancellation, outcome: { $0.outcome }) {
            let address = try OpenedRepository.address(job.repository)
            let repository = try OpenedRepository.open(address, keys)
            let (whole, damaged) = repository.snapshotInfos()
            let proofs = repository.proofFacts()
            let shown = whole.filter { info in
                (job.host ?? info.host) == info.host && (job.tag.map(info.tags.contains) ?? true)
            }
            return Findings(
                repository: address, snapshots: shown.map { Findings.Item($0, proofs.whole[$0.id] ?? []) },
                damaged: (damaged + proofs.damaged).map { Findings.Damaged(name: $0.name, error: "\($0.error)") })
        }
    }
}
