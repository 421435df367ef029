// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Collects extents, which arrive in ascending logical order, as ranges of the device, in bounded memory.
struct BtrfsUsedRanges {
    private let superblock: BtrfsSuperblock
    private let chunks: BtrfsChunkMap
    private let volumeByteCount: UInt64
    /// On the device, in any order: the logical order differs from the device's.
    private var ranges: [ByteRange] = []
    /// Used logical addresses that are not placed yet: adjacent extents are merged.
    private var run: (range: ByteRange, chunk: Int)?
    private var end: UInt64 = 0
    /// Per chunk.
    private var usedByteCounts: [UInt64]

    init(_ superblock: BtrfsSuperblock, _ chunks: BtrfsChunkMap, volumeByteCount: UInt64) {
        self.superblock = superblock
        self.chunks = chunks
        self.volumeByteCount = volumeByteCount
        usedByteCounts = Array(repeating: 0, count: chunks.chunks.count)
    }

    /// Adds the extent of an EXTENT_ITEM (address, 168, length) or METADATA_ITEM (address, 169, level).
    mutating func add(_ block: BtrfsTreeBlock, _ item: BtrfsTreeBlock.Item) throws(FilesystemError) {
        // struct btrfs_extent_item: 24 bytes; shorter ones are from before 2009.
        guard item.byteCount >= 24 else { throw .damaged("its extent tree is not valid") }
        let flags = try FilesystemError.parsing { () throws(ParsingError) in
            try block.bytes.littleEndian(UInt64.self, at: item.place + 16)  // flags
        }
        // BTRFS_EXTENT_FLAG_DATA, BTRFS_EXTENT_FLAG_TREE_BLOCK: exactly one of them.
        let isMetadata = flags & 3 == 2
        let nodeSize = UInt64(superblock.nodeSize)
        let byteCount = item.key.type == BtrfsItemType.metadataItem ? nodeSize : item.key.offset
        guard flags & 3 == 1 || isMetadata, !isMetadata || byteCount == nodeSize,
            isMetadata || item.key.type == BtrfsItemType.extentItem,
            let range = ByteRange(offset: item.key.objectID, byteCount: byteCount), !range.isEmpty,
            range.lowerBound % UInt64(superblock.sectorSize) == 0, byteCount % UInt64(superblock.sectorSize) == 0,
            range.lowerBound >= end
        else { throw .damaged("its extent at \(item.key.objectID) is not valid") }
        // Usually the chunk of the previous extent.
        let index = run.flatMap { chunks.chunks[$0.chunk].logical.covers(range) ? $0.chunk : nil }
        guard let index = index ?? chunks.index(covering: range) else {
            throw .damaged("its extent at \(item.key.objectID) does not lie in one chunk")
        }
        let kinds = isMetadata ? BtrfsChunk.metadata | BtrfsChunk.system : BtrfsChunk.data
        guard chunks.chunks[index].type & kinds != 0 else {
            throw .damaged("its extent at \(item.key.objectID) lies in a chunk of another kind")
        }
        end = range.upperBound
        usedByteCounts[index] += byteCount  // disjoint ranges inside the chunk: at most its length
        if let last = run, last.chunk == index, last.range.upperBound == range.lowerBound {
            run = (last.range.lowerBound..<range.upperBound, index)
        } else {
            place()
            run = (range, index)
        }
    }

    /// The map of the volume, once all extents are added.
    mutating func map(blockGroups: [BtrfsBlockGroup?]) throws(FilesystemError) -> AllocationMap {
        place()
        run = nil
        var total: UInt64 = 0
        for (index, used) in usedByteCounts.enumerated() {
            let start = chunks.chunks[index].logical.lowerBound
            guard let group = blockGroups[index], group.usedByteCount == used else {
                throw .damaged("its block group at \(start) contradicts the extents in it")
            }
            total += used  // at most the length of all chunks, which lie disjoint on the device
        }
        guard total == superblock.bytesUsed else {
            throw .damaged("its extents contradict the bytes that its superblock counts as used")
        }
        ranges.append(0..<BtrfsSuperblock.reservedHeadByteCount)
        for offset in BtrfsSuperblock.offsets { ranges.append(offset..<offset + BtrfsSuperblock.reservedByteCount) }
        // The filesystem cannot declare space behind its end free.
        ranges.append(superblock.device.byteCount..<max(volumeByteCount, superblock.device.byteCount))
        return AllocationMap(byteCount: volumeByteCount, unsorted: ranges)
            .coalesced(toAtMost: RangeAccumulator.standardLimit)
    }

    private mutating func place() {
        guard let run else { return }
        ranges += chunks.chunks[run.chunk].places(of: run.range)
        if ranges.count > 2 * RangeAccumulator.standardLimit {
            ranges =
                AllocationMap(byteCount: volumeByteCount, unsorted: ranges)
                .coalesced(toAtMost: RangeAccumulator.standardLimit / 2).ranges
        }
    }
}
