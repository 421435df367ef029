// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs

/// What a list of snapshots says of one.
public struct SnapshotInfo: Equatable, Sendable {
    /// The name of its manifest: of all its contents.
    public var id: ContentHash
    /// The captured machine.
    public var host: String
    /// The captured disk: its serial number, or what else names it.
    public var disk: String
    /// When the capture began: RFC 3339 in UTC.
    public var started: String
    /// When it ended: RFC 3339 in UTC.
    public var ended: String
    /// The bytes in use on the disk.
    public var usedByteCount: UInt64
    /// What the repository grew by, in bytes.
    public var addedByteCount: UInt64
    /// Tags, sorted.
    public var tags: [String]

    /// From parts.
    public init(
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
