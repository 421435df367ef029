// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs

/// The entry of a snapshot in a list.
package struct SnapshotInfo: Equatable, Sendable {
    /// The id: the hash of its payload.
    package var id: ContentHash
    /// The captured machine.
    package var host: String
    /// The captured disk: its serial number, or another name for it.
    package var disk: String
    /// When the capture began: RFC 3339 in UTC.
    package var started: String
    /// When it ended: RFC 3339 in UTC.
    package var ended: String
    /// The bytes in use on the disk.
    package var usedByteCount: UInt64
    /// The growth of the repository, in bytes.
    package var addedByteCount: UInt64
    /// Tags, sorted.
    package var tags: [String]

    /// From parts.
    package init(
        id: ContentHash, host: String, disk: String, started: String, ended: String, usedByteCount: UInt64,
        addedByteCount: UInt64, tags: [String]
    ) {
        self.id = id
        self.host = host
        self.disk = disk
        self.started = started
        self.ended = ended
        self.usedByteCount = usedByteCount
        self.addedByteCount = addedByteCount
        self.tags = tags
    }
}
