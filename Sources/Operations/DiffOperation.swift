// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import JobModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage

/// Compares two snapshots of one repository. Chunks are compared by id; no data is read.
package final class DiffOperation {
    private let job: DiffJob
    private let keys: KeyRing
    private let events: any EventSink

    /// The differences between two snapshots.
    package struct Findings: Encodable {
        package struct Part: Encodable {
            /// The number of the partition; `nil` outside of partitions.
            package var partition: Int?
            package var label: String
            package var changedByteCount: UInt64
            package var addedByteCount: UInt64
            package var removedByteCount: UInt64
            package var usedThenByteCount: UInt64
            package var usedNowByteCount: UInt64
        }
        package let schema = 1
        package var from: String
        package var to: String
        package var changedByteCount: UInt64
        package var partitions: [Part]
        /// The start times of the captures.
        package var started: (from: String, to: String)

        private enum CodingKeys: String, CodingKey { case schema, from, to, changedByteCount, partitions }

        fileprivate init(_ difference: SnapshotDiff) {
            from = difference.first.id.description
            to = difference.second.id.description
            changedByteCount = difference.changedByteCount
            partitions = difference.regions.map {
                Part(
                    partition: $0.partition, label: $0.label, changedByteCount: $0.changedByteCount,
                    addedByteCount: $0.addedByteCount, removedByteCount: $0.removedByteCount,
                    usedThenByteCount: $0.firstUsedByteCount, usedNowByteCount: $0.secondUsedByteCount)
            }
            started = (difference.first.started, difference.second.started)
        }
    }

    /// - Parameter keys: the job's passwords.
    package init(_ job: DiffJob, keys: KeyRing, events: any EventSink) {
        self.job = job
        self.keys = keys
        self.events = events
    }

    /// - Throws: `JobFailure` or an error of the engines.
    package func run() throws -> Findings {
        try events.reporting("diff", keys.cancellation, outcome: { _ in Outcome(.done) }) { try compared() }
    }

    private func compared() throws -> Findings {
        guard case .snapshot(let first) = try ImageAddress.parse(job.from, .thisMachine),
            case .snapshot(let second) = try ImageAddress.parse(job.to, .thisMachine)
        else {
            throw JobFailure(.usage, "diff takes two snapshots: REPO@\(SnapshotAddress.forms)")
        }
        guard Stores.areSame(first.repository, second.repository) else {
            throw JobFailure(.usage, "both snapshots must be in one repository: copy one over first (reforge copy)")
        }
        let (repository, lock) = try OpenedRepository.open(first.repository, keys, .restore)
        defer { lock.release() }
        let difference = try repository.diff(
            try OpenedRepository.find(first, in: repository, events),
            try OpenedRepository.find(second, in: repository, events))
        return Findings(difference)
    }
}
