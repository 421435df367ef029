// SPDX-License-Identifier: GPL-3.0-or-later

/// What forget did, or would do.
public struct ForgetReport: Equatable, Sendable {
    /// Whether nothing was changed.
    public var isDryRun: Bool
    /// What stays and what goes, by host, disk and tags, and why.
    public var groups: [RetentionPolicy.Group]
    /// The snapshots that cannot be read: nobody knows whose they are, so they stay. Their files, and why.
    public var damaged: [String]

    /// All that went.
    public var forgotten: [SnapshotInfo] { groups.flatMap(\.forgotten) }
}
