// SPDX-License-Identifier: GPL-3.0-or-later

/// The result of `forget`, or of its dry run.
package struct ForgetReport: Equatable, Sendable {
    /// Whether nothing was changed.
    package var isDryRun: Bool
    /// The snapshots kept and forgotten, by host, disk and tags, with the reasons.
    package var groups: [RetentionPolicy.Group]
    /// The unreadable snapshots: they match no rule and are kept. Each with its file and the error.
    package var damaged: [String]

    /// All forgotten snapshots.
    package var forgotten: [SnapshotInfo] { groups.flatMap(\.forgotten) }
}
