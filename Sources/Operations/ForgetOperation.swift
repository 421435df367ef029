// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import JobModel
import LinuxSystem
import Repository
import SystemPackage

/// Removes snapshots by a retention policy.
package final class ForgetOperation {
    private let job: ForgetJob
    private let keys: KeyRing
    private let events: any EventSink

    /// The kept snapshots and the removed ones; in a dry run, those that would be removed.
    package struct Findings: Encodable {
        package struct Item: Encodable {
            package var id: String
            package var host: String
            package var disk: String
            package var started: String
            package var tags: [String]
            /// Why it is kept; `nil` for a removed snapshot.
            package var reasons: [String]?

            fileprivate init(_ info: SnapshotInfo, _ reasons: [String]? = nil) {
                id = info.id.description
                (host, disk, started, tags) = (info.host, info.disk, info.started, info.tags)
                self.reasons = reasons
            }
        }
        /// The snapshots of one disk of one host with one set of tags.
        package struct Group {
            package var host: String
            package var disk: String
            package var tags: [String]
            package var kept: [Item]
            package var forgotten: [Item]
        }
        package let schema = 1
        package var dryRun: Bool
        package var kept: [Item]
        package var forgotten: [Item]
        /// The snapshots that are kept because they cannot be read: their files and errors.
        package var damaged: [String]
        /// All of `kept` and `forgotten`, sorted by host, disk and tags.
        package var groups: [Group]

        package var outcome: Outcome { Outcome(damaged.isEmpty ? .done : .badImage) }

        private enum CodingKeys: String, CodingKey { case schema, dryRun, kept, forgotten, damaged }

        fileprivate init(_ report: ForgetReport) {
            dryRun = report.isDryRun
            damaged = report.damaged
            groups = report.groups.map { group in
                Group(
                    host: group.host, disk: group.disk, tags: group.tags,
                    kept: group.kept.map { Item($0.snapshot, $0.reasons) },
                    forgotten: group.forgotten.map { Item($0) })
            }
            kept = groups.flatMap(\.kept)
            forgotten = groups.flatMap(\.forgotten)
        }
    }

    /// - Parameter keys: the job's passwords.
    package init(_ job: ForgetJob, keys: KeyRing, events: any EventSink) {
        self.job = job
        self.keys = keys
        self.events = events
    }

    /// - Throws: `JobFailure` or an error of the engines.
    package func run() throws -> Findings {
        try events.reporting("forget", keys.cancellation, outcome: { $0.outcome }) {
            if let why = job.contradiction { throw JobFailure(.usage, why) }
            let policy = RetentionPolicy(
                keepLast: job.keepsLast, daily: job.keepsDaily, weekly: job.keepsWeekly, monthly: job.keepsMonthly,
                yearly: job.keepsYearly)
            let repository = try OpenedRepository.open(try OpenedRepository.address(job.repository), keys)
            return Findings(
                try repository.forget(
                    policy: policy, host: job.host, tag: job.tag, dryRun: job.dryRun, note: events.log))
        }
    }
}
