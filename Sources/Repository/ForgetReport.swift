// SPDX-License-Identifier: GPL-3.0-or-later

/// What forget did, or would do.
package struct ForgetReport: Equatable, Sendable {
    /// Whether nothing was changed.
    package var isDryRun: Bool
    /// What stays and what goes, by host, disk and tags, and why.
    package var groups: [RetentionPolicy.Group]
    /// The snapshots that cannot be read: nobody knows whose they are, so they stay. Their files, and why.
    package var damaged: [String]

    /// All that went.
    package var forgotten: [SnapshotInfo] { groups.flatMap(\.forgotten) }
}
