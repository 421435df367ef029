// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Compares the map of an ext filesystem with its inodes: every block that a file owns must be in it.
///
/// All inode tables are read in order, whatever their flags; blocks of extents or block numbers are read only where a
/// file has them, in ascending order. The first contradiction ends the work as `FilesystemError.damaged`.
struct ExtOwnerProof {
    private static let batchByteCount = 1 << 20
    /// The limit of pending extent blocks before they are read in order.
    private static let batchNodeCount = 1 << 16
    /// The limit of recorded inodes that may be left over from an earlier filesystem.
    private static let mostSuspects = 1 << 16
    /// Parts of inode tables marked as unused are read completely up to this sum, or a sixteenth of the used parts.
    private static let leastUnusedByteCount: UInt64 = 64 << 20
    /// The inode of bad blocks, whose contents cannot be read, and that of blocks reserved for growing, which the map
    /// has from the descriptors.
    private static let skippedInodes: Set<UInt32> = [1, 7]
    /// Reserved inodes are used whatever the bitmaps say.
    private static let firstOrdinaryInode = 11

    private let groups: ExtGroupReader
    private let inodes: ExtInodeReader
    private let superblock: ExtSuperblock
    private let map: AllocationMap
    private let blockSize: UInt64
    private var waiting: [(node: ExtBlockTree.Node, owner: UInt32)] = []
    /// No block is a part of two trees: with more reads than that, they are connected.
    private var nodesLeft: UInt64
    /// Inodes with a free block that are marked free in the inode bitmaps too, and that block.
    private var suspects: [UInt32: UInt64] = [:]
    /// The last inode that was checked in detail, and whether it is no owner.
    private var judged: (number: UInt32, isStale: Bool) = (0, false)

    init(_ volume: any BlockReader, _ superblock: ExtSuperblock, _ map: AllocationMap) {
        groups = ExtGroupReader(volume, superblock)
        inodes = ExtInodeReader(groups)
        self.superblock = superblock
        self.map = map
        blockSize = groups.blockSize
        nodesLeft = map.usedByteCount / blockSize
    }

    mutating func run() throws(FilesystemError) {
        // 2^32 inodes of 2^16 bytes at most; overlapping tables would have unbounded cost.
        let tableByteCount = UInt64(superblock.inodeCount) * UInt64(superblock.inodeSize)
        guard tableByteCount <= superblock.blockCount * blockSize else {
            throw .damaged("its inode tables are larger than it is")
        }
        let readsAll = try unusedTableByteCount() <= max(Self.leastUnusedByteCount, map.usedByteCount / 16)
        try forEachGroup { me, group, descriptor throws(FilesystemError) in
            try me.checkCount(of: descriptor, group)
            try me.checkTable(of: descriptor, group, readsAll: readsAll)
        }
        try readNodes()
        if let number = try suspects.isEmpty ? nil : inodes.firstNamed(of: Set(suspects.keys)) {
            throw contradiction(number, suspects[number] ?? 0)
        }
    }

    private func contradiction(_ inode: UInt32, _ block: UInt64) -> FilesystemError {
        .damaged("inode \(inode) uses block \(block), which the block bitmap calls free")
    }

    private mutating func forEachGroup(
        _ body: (inout Self, UInt64, ExtGroupDescriptor) throws(FilesystemError) -> Void
    ) throws(FilesystemError) {
        var group: UInt64 = 0
        while group < superblock.groupCount {
            for descriptor in try groups.descriptors(from: group) {
                try body(&self, group, descriptor)
                group += 1
            }
        }
    }

    // MARK: Groups

    /// Inodes at the start of a group's table that are marked as once used or in use.
    private func usedInodeCount(_ descriptor: ExtGroupDescriptor) -> UInt64 {
        let perGroup = UInt64(superblock.inodesPerGroup)
        return descriptor.inodeTableIsUninitialised
            ? 0 : perGroup - min(perGroup, UInt64(descriptor.unusedInodeCount))
    }

    private mutating func unusedTableByteCount() throws(FilesystemError) -> UInt64 {
        var unused: UInt64 = 0
        try forEachGroup { me, _, descriptor throws(FilesystemError) in
            unused += UInt64(me.superblock.inodesPerGroup) - me.usedInodeCount(descriptor)
        }
        return unused * UInt64(superblock.inodeSize)
    }

    /// A group without its own bitmap uses exactly its metadata; its count may contradict that.
    private func checkCount(of descriptor: ExtGroupDescriptor, _ group: UInt64) throws(FilesystemError) {
        guard descriptor.blockBitmapIsUninitialised else { return }
        let start = groups.firstBlock(of: group) * blockSize
        let ratio = superblock.clusterRatio
        let clusterCount = (groups.blockCount(of: group) + ratio - 1) / ratio
        let known = map.ranges(in: start..<start + groups.blockCount(of: group) * blockSize)
            .reduce(0) { $0 + $1.byteCount }
        let counted = clusterCount - min(clusterCount, UInt64(descriptor.freeClusterCount))
        guard (known + ratio * blockSize - 1) / (ratio * blockSize) >= counted else {
            throw .damaged("its block group \(group) is flagged as never used, and counts \(counted) blocks in use")
        }
    }

    private mutating func checkTable(
        of descriptor: ExtGroupDescriptor, _ group: UInt64, readsAll: Bool
    ) throws(FilesystemError) {
        let all = UInt64(superblock.inodesPerGroup)
        if readsAll {
            _ = try checkInodes(0..<all, descriptor, group)
            return
        }
        let used = usedInodeCount(descriptor)
        _ = try checkInodes(0..<used, descriptor, group)
        // Inodes are allocated from the lowest free one on: where the next ones were never written, none was.
        let perBlock = blockSize / UInt64(superblock.inodeSize)
        let probe = min(all, (used / perBlock + 1) * perBlock)
        if try checkInodes(used..<probe, descriptor, group) { _ = try checkInodes(probe..<all, descriptor, group) }
    }

    /// Checks the inodes of a group at these places of its table.
    /// - Returns: whether any of them was ever written.
    private mutating func checkInodes(
        _ indices: Range<UInt64>, _ descriptor: ExtGroupDescriptor, _ group: UInt64
    ) throws(FilesystemError) -> Bool {
        let inodeSize = UInt64(superblock.inodeSize)
        let perBlock = blockSize / inodeSize
        var wasWritten = false
        var index = indices.lowerBound
        while index < indices.upperBound {
            let block = index / perBlock
            let first = block * perBlock
            let end = min(indices.upperBound, first + max(perBlock, UInt64(Self.batchByteCount) / inodeSize))
            let bytes = try groups.read(
                descriptor.inodeTable + block, byteCount: Int((end - first) * inodeSize), "an inode table")
            while index < end {
                let place = Int((index - first) * inodeSize)
                // Below 2^32: inodeCount is the product of both.
                let number = UInt32(truncatingIfNeeded: group * UInt64(superblock.inodesPerGroup) + index + 1)
                index += 1
                wasWritten = wasWritten || bytes[place] | bytes[place + 1] != 0
                guard ExtInode.isInUse(bytes, at: place), !Self.skippedInodes.contains(number) else { continue }
                let inode = try FilesystemError.parsing { () throws(ParsingError) in
                    try ExtInode(bytes, at: place, number: number, of: superblock)
                }
                try check(inode)
            }
        }
        return wasWritten
    }

    // MARK: Owners

    private mutating func check(_ inode: ExtInode) throws(FilesystemError) {
        if inode.attributeBlock != 0 {
            _ = try isInMap(inode.attributeBlock..<inode.attributeBlock + 1, of: inode.number)
        }
        guard inode.ownsBlocks else { return }
        try check(ExtBlockTree.parts(of: inode), of: inode.number)
    }

    private mutating func check(_ parts: ExtBlockTree.Parts, of owner: UInt32) throws(FilesystemError) {
        for run in parts.runs { guard try isInMap(run, of: owner) else { return } }
        for node in parts.nodes {
            guard try isInMap(node.block..<node.block + 1, of: owner) else { return }
            // Outside the filesystem: no contents.
            guard node.block > 0, node.block < superblock.blockCount else { continue }
            waiting.append((node, owner))
        }
        if waiting.count >= Self.batchNodeCount { try readNodes() }
    }

    /// Reads the pending nodes in ascending order; their children are pending in turn. Works level by level, so that
    /// no more than a batch of each level is held.
    private mutating func readNodes() throws(FilesystemError) {
        while !waiting.isEmpty {
            let batch = waiting.sorted { $0.node.block < $1.node.block }
            waiting = []
            for (node, owner) in batch {
                guard nodesLeft > 0 else { throw .damaged("the extents of its files have more blocks than are in use") }
                nodesLeft -= 1
                let bytes = try groups.read(node.block, byteCount: Int(blockSize), "a block of extents")
                try check(ExtBlockTree.parts(of: bytes, node), of: owner)
            }
        }
    }

    /// Whether blocks of an inode are used in the map. If they are free and the inode is an owner, that is the
    /// contradiction; an inode that is no owner needs no further check.
    private mutating func isInMap(_ blocks: Range<UInt64>, of owner: UInt32) throws(FilesystemError) -> Bool {
        // Blocks outside of the filesystem cannot be lost.
        guard blocks.upperBound <= superblock.blockCount else { return true }
        let bytes = blocks.lowerBound * blockSize..<blocks.upperBound * blockSize
        if map.covers(bytes) { return true }
        let first = blocks.first { !map.covers($0 * blockSize..<($0 + 1) * blockSize) } ?? blocks.lowerBound
        guard try isOwner(owner, first) else { return false }
        throw contradiction(owner, first)
    }

    /// Whether an inode with a free block is a file's. If its bitmap marks it, or all inode tables were initialised,
    /// it is; if it may stem from an earlier filesystem in the same place, it becomes a suspect.
    private mutating func isOwner(_ number: UInt32, _ block: UInt64) throws(FilesystemError) -> Bool {
        if judged == (number, true) { return false }
        guard number >= Self.firstOrdinaryInode, superblock.hasDescriptorChecksums else { return true }
        if try inodes.isMarkedUsed(number) { return true }
        judged = (number, true)
        guard let inode = try inodes.inode(number), inode.checksumIsRight(of: superblock) else { return false }
        if inode.holdsAttribute { return true }
        guard suspects.count < Self.mostSuspects else { throw contradiction(number, block) }
        if suspects[number] == nil { suspects[number] = block }
        return false
    }
}
