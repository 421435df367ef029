// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The least length to which `resize2fs` shrinks an ext filesystem, computed from the counts in its group descriptors,
/// so that a plan needs neither the tool nor the filesystem.
///
/// It follows the estimate of `resize2fs -P` (e2fsprogs, resize2fs.c, calculate_minimum_resize_size), below which the
/// tool refuses to go, and adds a margin: files must fit in the room that the groups leave besides their metadata, the
/// used inodes need inode tables, and with flex_bg a whole flex group of tables may stay. Where the metadata of a flex
/// group exceeds its first group, as in very small groups, the tool ignores the rest: here it counts.
struct ExtLeastSize {
    /// The blocks that the tool leaves in a last group besides its metadata.
    private static let leastLastGroup: UInt64 = 50

    private let superblock: ExtSuperblock
    /// The metadata of all groups before the one at an index: one entry more than there are groups.
    private var metadataBefore: [UInt64] = [0]
    /// The start of each group's inode table.
    private var inodeTables: [UInt64] = []
    private var freeBlockCount: UInt64 = 0
    private var freeInodeCount: UInt64 = 0

    init(_ superblock: ExtSuperblock) { self.superblock = superblock }

    /// Adds the next group.
    /// - Parameter backupBlockCount: the blocks of its superblock and descriptors.
    mutating func add(_ descriptor: ExtGroupDescriptor, backupBlockCount: UInt64) {
        // Both bitmaps and the inode table.
        let metadata = backupBlockCount + 2 + superblock.inodeTableBlockCount
        metadataBefore.append((metadataBefore.last ?? 0) + metadata)
        inodeTables.append(descriptor.inodeTable)
        // At most 2^20 groups of 32 bits each.
        freeBlockCount += UInt64(descriptor.freeClusterCount)
        freeInodeCount += UInt64(descriptor.freeInodeCount)
    }

    /// In bytes, once every group is added; `nil` if the tool does not resize it or the counts are invalid.
    var byteCount: UInt64? {
        let groupCount = superblock.groupCount
        let total = superblock.blockCount
        // resize2fs: "Cannot shrink this filesystem because it has the stable_inodes feature flag."
        guard superblock.clusterRatio == 1, !superblock.has(compatible: ExtFeature.stableInodes),
            UInt64(inodeTables.count) == groupCount,
            freeInodeCount <= UInt64(superblock.inodeCount), let allMetadata = metadataBefore.last,
            allMetadata + freeBlockCount <= total
        else { return nil }
        let dataCount = total - allMetadata - freeBlockCount
        let usedInodeCount = UInt64(superblock.inodeCount) - freeInodeCount
        let inodesPerGroup = UInt64(superblock.inodesPerGroup)
        let firstCandidate = max(1, (usedInodeCount + inodesPerGroup - 1) / inodesPerGroup)
        guard firstCandidate <= groupCount else { return nil }
        guard let needed = blockCount(firstCandidate, dataCount) else { return total * UInt64(superblock.blockSize) }
        return min(total, margined(needed, dataCount, usedInodeCount)) * UInt64(superblock.blockSize)
    }

    /// The length with at least that many groups, the last one as short as possible; `nil` if all are needed.
    private func blockCount(_ firstCandidate: UInt64, _ dataCount: UInt64) -> UInt64? {
        let perGroup = UInt64(superblock.blocksPerGroup)
        var groups = firstCandidate
        var end = flexEnd(groups)
        var placed = room(0..<groups - 1)
        while true {
            let all = groups * perGroup
            let free = all - min(all, metadataBefore[Int(end)])
            if free >= dataCount { break }
            // As in the tool: of several groups added in one flex group, only one counts as filled.
            placed += room(groups - 1..<groups)
            groups += (dataCount - free + perGroup - 1) / perGroup
            guard groups <= superblock.groupCount else { return nil }
            let newEnd = flexEnd(groups)
            placed += room(min(end, groups - 1)..<min(newEnd, groups - 1))
            end = newEnd
        }
        // In the first flex group the tables of all its groups count once more: they are before its data.
        let tailStart = superblock.groupsPerFlex > groups - 1 ? 0 : groups - 1
        let tail = metadataBefore[Int(end)] - metadataBefore[Int(tailStart)]
        let inLastGroup = max(Self.leastLastGroup, dataCount - min(dataCount, placed))
        let tableEnd = inodeTables[Int(groups - 1)] + superblock.inodeTableBlockCount
        return max((groups - 1) * perGroup + tail + inLastGroup + UInt64(superblock.firstDataBlock), tableEnd)
    }

    /// The blocks that these groups leave for data.
    private func room(_ groups: Range<UInt64>) -> UInt64 {
        let all = UInt64(groups.count) * UInt64(superblock.blocksPerGroup)
        return all - min(all, metadataBefore[Int(groups.upperBound)] - metadataBefore[Int(groups.lowerBound)])
    }

    /// The end of the last flex group of a filesystem with that many groups: its tables may be in its first group.
    private func flexEnd(_ groups: UInt64) -> UInt64 {
        let flex = superblock.groupsPerFlex
        return flex > 1 ? min(superblock.groupCount, (groups / flex + 1) * flex) : groups
    }

    /// Adds the blocks for extents that are split in the move: the tool's own margin, and half a percent for additions
    /// by e2fsck (lost+found, a journal that it recreates) and for versions that count otherwise.
    private func margined(_ needed: UInt64, _ dataCount: UInt64, _ usedInodeCount: UInt64) -> UInt64 {
        let shrinkage = superblock.blockCount - min(needed, superblock.blockCount)
        // struct ext4_extent has 12 bytes, and so has the header of a block of them.
        let perBlock = UInt64(superblock.blockSize) / 12 - 1
        let worst = max((dataCount + perBlock - 1) / perBlock, usedInodeCount)
        let sum = needed + min(shrinkage / 500, worst) + needed / 200 + 64
        // resize2fs may require whole pages.
        let pageBlocks = max(1, 4096 / UInt64(superblock.blockSize))
        return (sum + pageBlocks - 1) / pageBlocks * pageBlocks
    }
}
