// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// An interrupted restore, as recorded in the journal on its target.
package struct InterruptedRestore: Encodable, Equatable, Sendable, CustomStringConvertible {
    /// The UUID of the restored image.
    package let imageUUID: GUID
    /// The least position that it reached, in bytes of the captured disk.
    package let position: UInt64
    /// The length of the captured disk in bytes.
    package let byteCount: UInt64
    /// The partition that it restored, or that was itself the target; `nil` for the whole disk.
    package private(set) var partition: Int?

    init(_ journal: RestoreJournal) {
        imageUUID = journal.imageUUID
        position = journal.position
        byteCount = journal.diskByteCount
    }

    /// Reads the journal of a disk; `nil` without one, and for a disk that has been used since: its new table or
    /// filesystem starts before the journal, where a restore leaves zeros until its commit.
    package init?(on disk: any BlockReader) throws(BlockIOError) {
        guard let journal = RestoreJournal.read(disk) else { return nil }
        let front = try disk.readBytes(at: 0, count: Int(RestoreJournal.slotOffsets[0]))
        guard front.allSatisfy({ $0 == 0 }) else { return nil }
        self.init(journal)
    }

    /// Reads the journal of a disk, or of one of its partitions without a known filesystem.
    /// - Parameter volumes: the surveyed volumes of the disk.
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

    /// The position that it reached, for a person.
    var progress: String {
        position >= byteCount
            ? "with all data there and its filesystems not fitted yet"
            : "\(ByteText.rounded(position)) of \(ByteText.rounded(byteCount)) far"
    }
}
