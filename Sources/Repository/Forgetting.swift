// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import SystemPackage

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
        let lock = dryRun ? nil : try RepositoryLock.acquire(at: path, operation: .forget, note: note)
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
        try SnapshotLedger.forget(ids, layout)
        try noteForgetting()
    }

    /// The prune of an earlier version counts the grace time of readers without a lock from here.
    private func noteForgetting() throws(ImageError) {
        let path = layout.marks.appending(PruneMarks.forgottenName)
        do {
            let file = try OwnedDescriptor.open(
                path, .writeOnly, options: [.create, .noFollow],
                permissions: [.ownerReadWrite, .groupRead, .otherRead])
            try Files.touch(file.raw, path.string)
            try Files.sync(file.raw, path.string)
        } catch {
            // A full disk must not keep anybody from making room; prune then counts from its own marks.
            guard error.errno != .noSpace else { return }
            throw .system(error)
        }
    }
}
