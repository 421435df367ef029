// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore

extension Repository {
    /// Removes the snapshots that a policy does not keep. What only they needed stays until `prune`.
    /// - Parameters:
    ///   - host: only snapshots of this host; `nil` for all. Others are not looked at, and stay.
    ///   - tag: only snapshots with this tag; `nil` for all.
    ///   - dryRun: nothing is removed; the report says what would be.
    ///   - note: is told what a person should know at once.
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

    /// Moves snapshots to the ledger, which records that they went on purpose. One that is gone already is no error.
    func forget(_ ids: [ContentHash]) throws(ImageError) {
        guard !ids.isEmpty else { return }
        try noteForgetting()
        try SnapshotLedger.forget(ids, store)
        try noteForgetting()
    }

    /// The prune of an earlier version counts the grace time of readers without a lock from here.
    private func noteForgetting() throws(ImageError) {
        // A full store must not keep anybody from making room; prune then counts from its own marks.
        do { try store.put(.forgetting, [], .durable) } catch { if !error.isFull { throw error } }
    }
}
