// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Locates and reads the block groups of an ext filesystem with a valid superblock.
struct ExtGroupReader {
    let volume: any BlockReader
    let superblock: ExtSuperblock
    let blockSize: UInt64

    init(_ volume: any BlockReader, _ superblock: ExtSuperblock) {
        self.volume = volume
        self.superblock = superblock
        blockSize = UInt64(superblock.blockSize)
    }

    /// The descriptors from that of `group` on, which is the first one of its block of descriptors: those in the same
    /// block and in the blocks right behind.
    func descriptors(from group: UInt64) throws(FilesystemError) -> [ExtGroupDescriptor] {
        let perBlock = UInt64(superblock.descriptorsPerBlock)
        let firstBlock = group / perBlock
        let isMeta = superblock.has(incompatible: ExtFeature.metaGroups) && firstBlock >= superblock.firstMetaGroup
        let plainEnd =
            superblock.has(incompatible: ExtFeature.metaGroups)
            ? UInt64(superblock.firstMetaGroup) * perBlock : superblock.groupCount
        let atMost = max(1, 65536 / blockSize) * perBlock
        let end = min(superblock.groupCount, isMeta ? group + perBlock : min(plainEnd, group + atMost))
        guard end > group else { throw .damaged("the place of its group descriptors is not valid") }
        let block = descriptorBlock(firstBlock, isMeta)
        let byteCount = Int(end - group) * superblock.descriptorSize
        let bytes = try read(block, byteCount: byteCount, "a group descriptor")
        var result: [ExtGroupDescriptor] = []
        result.reserveCapacity(Int(end - group))
        for index in 0..<Int(end - group) {
            let number = group + UInt64(index)
            let descriptor = try FilesystemError.parsing { () throws(ParsingError) in
                try ExtGroupDescriptor(
                    bytes, at: index * superblock.descriptorSize, group: UInt32(number), of: superblock)
            }
            guard descriptor.checksumIsRight else {
                throw .damaged("the checksum of its group descriptor \(number) is wrong")
            }
            result.append(descriptor)
        }
        return result
    }

    /// The descriptor of one group.
    func descriptor(of group: UInt64) throws(FilesystemError) -> ExtGroupDescriptor {
        let first = group - group % UInt64(superblock.descriptorsPerBlock)
        let batch = try descriptors(from: first)
        guard group - first < batch.count else { throw .damaged("a group descriptor is missing") }
        return batch[Int(group - first)]
    }

    /// The place of a block of descriptors ("Meta Block Groups" §2.6; `descriptor_loc` in the kernel's ext4/super.c).
    private func descriptorBlock(_ index: UInt64, _ isMeta: Bool) -> UInt64 {
        guard isMeta else { return superblock.superblockBlock + 1 + index }
        let group = index * UInt64(superblock.descriptorsPerBlock)
        // With 1 KiB blocks that count from 0 (bigalloc), the superblock of group 0 is in block 1.
        let correction: UInt64 = group == 0 && superblock.blockSize == 1024 && superblock.firstDataBlock == 0 ? 1 : 0
        return firstBlock(of: group) + (superblock.hasBackup(group) ? 1 : 0) + correction
    }

    func firstBlock(of group: UInt64) -> UInt64 {
        UInt64(superblock.firstDataBlock) + group * UInt64(superblock.blocksPerGroup)
    }

    /// The blocks of a group: fewer in the last one.
    func blockCount(of group: UInt64) -> UInt64 {
        min(UInt64(superblock.blocksPerGroup), superblock.blockCount - firstBlock(of: group))
    }

    /// The blocks at a group's start that contain superblock, descriptors, and the blocks reserved behind them.
    func backupBlockCount(_ group: UInt64) -> UInt64 {
        let hasBackup = superblock.hasBackup(group)
        let perBlock = UInt64(superblock.descriptorsPerBlock)
        let allBlocks = (superblock.groupCount + perBlock - 1) / perBlock
        let usesMeta = superblock.has(incompatible: ExtFeature.metaGroups)
        let plainBlocks = usesMeta ? min(UInt64(superblock.firstMetaGroup), allBlocks) : allBlocks
        // With 1 KiB blocks that count from 0 (bigalloc), block 0 is the boot block and not part of the layout.
        let correction: UInt64 = group == 0 && superblock.blockSize == 1024 && superblock.firstDataBlock == 0 ? 1 : 0
        guard usesMeta, group / perBlock >= superblock.firstMetaGroup else {
            return hasBackup ? 1 + plainBlocks + UInt64(superblock.reservedGDTBlocks) + correction : 0
        }
        // A meta group keeps its block of descriptors in its first, second and last group.
        let keepsDescriptors = [0, 1, perBlock - 1].contains(group % perBlock)
        return (hasBackup ? 1 : 0) + (keepsDescriptors ? 1 : 0) + correction
    }

    /// Reads from the start of a block on; `what` names the data in the error where the block is outside.
    func read(_ block: UInt64, byteCount: Int, _ what: String) throws(FilesystemError) -> [UInt8] {
        let blocks = (UInt64(byteCount) + blockSize - 1) / blockSize
        guard block > 0 || superblock.firstDataBlock == 0, block < superblock.blockCount,
            blocks <= superblock.blockCount - block
        else { throw .damaged("\(what) lies outside the filesystem") }
        return try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: block * blockSize, count: byteCount)
        }
    }
}
