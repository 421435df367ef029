// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import JobModel
import LinuxSystem
import Repository
import SystemPackage

/// Frees the space of data that no snapshot needs, in two steps: marked first, deleted by a later prune.
package final class PruneOperation {
    private let job: PruneJob
    private let keys: KeyRing
    private let events: any EventSink

    /// The longest wait for other maintenance of the repository, in seconds.
    private static let patience = 30.0

    /// The freed space; in a dry run, the space that would be freed.
    package struct Findings: Encodable {
        /// A number of packs, and their total length.
        package struct Amount: Encodable {
            package var packs: Int
            package var byteCount: UInt64

            fileprivate init(_ amount: PruneReport.Amount) {
                packs = amount.packCount
                byteCount = amount.byteCount
            }
        }
        package let schema = 1
        package var dryRun: Bool
        package var snapshots: Int
        package var neededByteCount: UInt64
        package var present: Amount
        package var removed: Amount
        package var waiting: Amount
        /// Included in `waiting`.
        package var newlyMarked: Amount
        package var unmarked: Amount
        package var repacked: Amount
        package var adopted: Amount
        package var copiedByteCount: UInt64
        /// The number of chunks that snapshots need and no pack has.
        package var missingCount: Int
        package var notes: [String]

        /// Missing chunks count as damage, as in `verify`.
        package var outcome: Outcome { Outcome(missingCount == 0 ? .done : .badImage) }

        fileprivate init(_ report: PruneReport, dryRun: Bool) {
            self.dryRun = dryRun
            snapshots = report.snapshotCount
            neededByteCount = report.neededByteCount
            present = Amount(report.present)
            removed = Amount(report.removed)
            waiting = Amount(report.waiting)
            newlyMarked = Amount(report.newlyMarked)
            unmarked = Amount(report.unmarked)
            repacked = Amount(report.repacked)
            adopted = Amount(report.adopted)
            copiedByteCount = report.copiedByteCount
            missingCount = report.missingCount
            notes = report.notes
        }
    }

    /// - Parameter keys: the job's passwords.
    package init(_ job: PruneJob, keys: KeyRing, events: any EventSink) {
        self.job = job
        self.keys = keys
        self.events = events
    }

    /// - Throws: `JobFailure` or an error of the engines.
    package func run() throws -> Findings {
        try events.reporting("prune", keys.cancellation, outcome: { $0.outcome }) {
            let repository = try OpenedRepository.open(try OpenedRepository.address(job.repository), keys)
            let report = try repository.prune(
                grace: job.grace, confirmedMissing: job.confirmedMissing, dryRun: job.dryRun, waiting: Self.patience,
                note: events.log)
            return Findings(report, dryRun: job.dryRun)
        }
    }
}
