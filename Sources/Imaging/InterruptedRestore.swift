// SPDX-License-Identifier: GPL-3.0-or-later
public import ByteParsing
public import DiskModel

/// A restore that did not come to its end, as the journal on its target tells.
public struct InterruptedRestore: Encodable, Equatable, Sendable, CustomStringConvertible {
    /// The image that it was of.
    public let imageUUID: GUID
    /// How far it was at least, in bytes of the captured disk.
    public let position: UInt64
    /// The length of the captured disk in bytes.
    public let byteCount: UInt64

    init(_ journal: RestoreJournal) {
        imageUUID = journal.imageUUID
        position = journal.position
        byteCount = journal.diskByteCount
    }

    /// What a disk holds in place of a system; `nil` for a disk that is no such target any more: a table or a filesystem that it has
    /// got since begins in front of the journal, where a restore leaves zeros until its commit.
    public init?(on disk: any BlockReader) throws(BlockIOError) {
        guard let journal = RestoreJournal.read(disk) else { return nil }
        let front = try disk.readBytes(at: 0, count: Int(RestoreJournal.slotOffsets[0]))
        guard front.allSatisfy({ $0 == 0 }) else { return nil }
        self.init(journal)
    }

    /// "an interrupted restore of image …, 1 GiB of 4 GiB far".
    public var description: String { "an interrupted restore of image \(imageUUID), \(progress)" }

    /// How far it was, for a person.
    var progress: String {
        position >= byteCount
            ? "with all data there and its filesystems not fitted yet"
            : "\(ByteText.rounded(position)) of \(ByteText.rounded(byteCount)) far"
    }
}
