// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A restore that did not come to its end, as the journal on its target tells.
package struct InterruptedRestore: Encodable, Equatable, Sendable, CustomStringConvertible {
    /// The image that it was of.
    package let imageUUID: GUID
    /// How far it was at least, in bytes of the captured disk.
    package let position: UInt64
    /// The length of the captured disk in bytes.
    package let byteCount: UInt64
    /// The one partition that it was onto, or that was its target for itself; `nil` for all of the disk.
    package private(set) var partition: Int?

    init(_ journal: RestoreJournal) {
        imageUUID = journal.imageUUID
        position = journal.position
        byteCount = journal.diskByteCount
    }

    /// What a disk holds in place of a system; `nil` for a disk that is no such target any more: a table or a filesystem that it has
    /// got since begins in front of the journal, where a restore leaves zeros until its commit.
    package init?(on disk: any BlockReader) throws(BlockIOError) {
        guard let journal = RestoreJournal.read(disk) else { return nil }
        let front = try disk.readBytes(at: 0, count: Int(RestoreJournal.slotOffsets[0]))
        guard front.allSatisfy({ $0 == 0 }) else { return nil }
        self.init(journal)
    }

    /// What a disk, or one of its partitions, holds in place of a system or a filesystem.
    /// - Parameter volumes: the disk as surveyed.
    package init?(on disk: any BlockReader, _ volumes: [VolumeSurvey]) throws(BlockIOError) {
        if let found = try InterruptedRestore(on: disk) {
            self = found
            return
        }
        for volume in volumes where volume.filesystem.kind == .unknown {
            guard let number = volume.partition?.number, let slice = BlockSlice(disk, range: volume.range),
                let found = try InterruptedRestore(on: slice)
            else { continue }
            self = found
            partition = number
            return
        }
        return nil
    }

    /// "an interrupted restore of image …, 1 GiB of 4 GiB far"; "in partition 2 an interrupted restore of …".
    package var description: String {
        "\(partition.map { "in partition \($0) " } ?? "")an interrupted restore of image \(imageUUID), \(progress)"
    }

    /// How far it was, for a person.
    var progress: String {
        position >= byteCount
            ? "with all data there and its filesystems not fitted yet"
            : "\(ByteText.rounded(position)) of \(ByteText.rounded(byteCount)) far"
    }
}
