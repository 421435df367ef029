// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore

extension Repository {
    /// Removes the snapshots that a policy does not keep. Contents that only they needed remain until `prune`.
    /// - Parameters:
    ///   - host: only snapshots of this host; `nil` for all. Snapshots of other hosts are kept.
    ///   - tag: only snapshots with this tag; `nil` for all.
    ///   - dryRun: remove nothing; the report lists what would be removed.
    ///   - note: receives messages for the user.
    package func forget(
        policy: RetentionPolicy, host: String? = nil, tag: String? = nil, dryRun: Bool = false,
        note: (String) -> Void = { _ in }
    ) throws(ImageError) -> ForgetReport {
        let lock = dryRun ? nil : try store.lock(.forget, note: note)
        defer { lock?.release() }
        let (whole, damaged) = snapshotInfos()
        let chosen = whole.filter { (host ?? $0.host) == $0.host && (tag.map($0.tags.contains) ?? true) }
        let groups = try policy.groups(chosen)
        let report = ForgetReport(
            isDryRun: dryRun, groups: groups, damaged: damaged.map { "\($0.name): \($0.error)" })
        try lock?.confirm()
        if !dryRun { try forget(report.forgotten.map(\.id)) }
        return report
    }

    /// Moves snapshots to the ledger, which records that they were removed on purpose. A missing snapshot is no error.
    func forget(_ ids: [ContentHash]) throws(ImageError) {
        guard !ids.isEmpty else { return }
        try noteForgetting()
        try SnapshotLedger.forget(ids, store)
        try noteForgetting()
    }

    /// The prune of an earlier version measures the grace time of readers without a lock from this time.
    private func noteForgetting() throws(ImageError) {
        // A full store must not prevent freeing space; prune then uses the times of its marks.
        do { try store.put(.forgetting, [], .durable) } catch { if !error.isFull { throw error } }
    }
}
