// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import LinuxSystem

extension SnapshotInfo {
    /// When the capture began, in seconds since 1970; `nil` if the text is no time.
    package var startedSeconds: Int64? { TimeText(started)?.unixSeconds }

    /// Ordered by time; the other members only break ties.
    static func isOlder(_ a: SnapshotInfo, than b: SnapshotInfo) -> Bool {
        let first = a.startedSeconds ?? .min
        let second = b.startedSeconds ?? .min
        if first != second { return first < second }
        if a.ended != b.ended { return a.ended < b.ended }
        return a.id.bytes.lexicographicallyPrecedes(b.id.bytes)
    }

    /// A short description for messages.
    var summary: String { "\(id.description.prefix(12)) (\(host)/\(disk), \(started))" }
}
