// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// A disk with another sector size.
package struct ResectoredReader: BlockReader {
    private let base: any BlockReader
    package let logicalSectorSize: Int
    package var byteCount: UInt64 { base.byteCount }
    package var name: String { base.name }

    package init(_ base: any BlockReader, logicalSectorSize: Int) {
        self.base = base
        self.logicalSectorSize = logicalSectorSize
    }

    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        unsafe try base.read(into: buffer, at: offset)
    }

    /// The disk with the sector size it was most likely written with, for a disk in a file, which states none: 512, unless
    /// its table is one of 4096-byte sectors.
    ///
    /// A GPT says it by the place of its header. An MBR has the same bytes for both; then the size counts with which
    /// more partitions start with a known content.
    package static func guessed(_ disk: any BlockReader) throws(BlockIOError) -> ResectoredReader {
        let small = ResectoredReader(disk, logicalSectorSize: 512)
        guard disk.byteCount % 4096 == 0 else { return small }
        let large = ResectoredReader(disk, logicalSectorSize: 4096)
        let ofLarge = try PartitionTableReader.read(large)
        guard ofLarge.kind == .gpt || ofLarge.kind == .mbr else { return small }
        let ofSmall = try PartitionTableReader.read(small)
        switch (ofSmall.kind, ofLarge.kind) {
        case (.gpt, _): return small
        case (_, .gpt): return large
        case (.mbr, _): return try small.knownContents(ofSmall) < large.knownContents(ofLarge) ? large : small
        case (.unknown, _): return try large.knownContents(ofLarge) > 0 ? large : small
        default: return small
        }
    }

    /// The number of partitions whose content is known.
    private func knownContents(_ table: PartitionTable) throws(BlockIOError) -> Int {
        var count = 0
        for partition in table.partitions where partition.isVolume {
            guard let slice = BlockSlice(self, range: partition.range) else { continue }
            if try VolumeIdentifier.survey(slice, trustMaps: true).0.kind != .unknown { count += 1 }
        }
        return count
    }
}
