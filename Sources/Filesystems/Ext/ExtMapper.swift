// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Reads the block bitmaps of an ext filesystem with a valid superblock, group by group.
///
/// Any inconsistency ends the work with `FilesystemError.damaged`: the volume is then taken whole.
struct ExtMapper {
    /// The bytes of one read: a flex group's bitmaps are adjacent.
    private static let batchByteCount = 1 << 20

    private let volume: any BlockReader
    private let superblock: ExtSuperblock
    private let groups: ExtGroupReader
    private let blockSize: UInt64
    private let seed: UInt32
    /// From the bitmaps, ascending.
    private var used = RangeAccumulator()
    /// Blocks that are used whatever the bitmaps say, merged where adjacent.
    private var metadata = RangeList()
    /// The least size according to the groups' counts; complete after `map()`.
    private(set) var leastSize: ExtLeastSize

    init(_ volume: any BlockReader, _ superblock: ExtSuperblock) {
        self.volume = volume
        self.superblock = superblock
        groups = ExtGroupReader(volume, superblock)
        blockSize = UInt64(superblock.blockSize)
        seed = superblock.checksumSeed
        leastSize = ExtLeastSize(superblock)
    }

    mutating func map() throws(FilesystemError) -> AllocationMap {
        try checkMultiMountProtection()
        // The boot block, and with 1 KiB blocks all of block 0, belong to no group.
        used.append(0..<max(ExtSuperblock.offset, UInt64(superblock.firstDataBlock) * blockSize))
        var group: UInt64 = 0
        while group < superblock.groupCount {
            let batch = try groups.descriptors(from: group)
            try mapGroups(batch, from: group)
            if group == 0, let first = batch.first { try checkJournal(first) }
            group += UInt64(batch.count)
        }
        // The filesystem cannot declare space behind its end free: verity trees, md superblocks.
        used.append(superblock.blockCount * blockSize..<volume.byteCount)
        return used.map(byteCount: volume.byteCount, others: metadata.ranges)
    }

    // MARK: Bitmaps

    private mutating func mapGroups(
        _ batch: [ExtGroupDescriptor], from group: UInt64
    ) throws(FilesystemError) {
        for (index, descriptor) in batch.enumerated() {
            let number = group + UInt64(index)
            try insertMetadata(of: descriptor, number)
            leastSize.add(descriptor, backupBlockCount: groups.backupBlockCount(number))
        }
        var index = 0
        while index < batch.count {
            guard !batch[index].blockBitmapIsUninitialised else {
                index += 1
                continue
            }
            var end = index + 1
            while end < batch.count, !batch[end].blockBitmapIsUninitialised,
                batch[end].blockBitmap == batch[end - 1].blockBitmap + 1,
                (end - index) * Int(blockSize) < Self.batchByteCount
            {
                end += 1
            }
            let bitmaps = try groups.read(
                batch[index].blockBitmap, byteCount: (end - index) * Int(blockSize), "a block bitmap")
            for place in index..<end {
                try mapGroup(batch[place], group + UInt64(place), bitmaps, at: (place - index) * Int(blockSize))
            }
            index = end
        }
    }

    private mutating func mapGroup(
        _ descriptor: ExtGroupDescriptor, _ group: UInt64, _ bitmaps: [UInt8], at offset: Int
    ) throws(FilesystemError) {
        if superblock.has(readOnlyCompatible: ExtFeature.metadataChecksum) {
            let bytes = try FilesystemError.parsing { () throws(ParsingError) in
                try bitmaps.bytes(at: offset, count: Int(superblock.clustersPerGroup / 8))
            }
            let checksum = ExtChecksum.crc32c(seed, bytes)
            let kept = superblock.descriptorSize >= 64 ? checksum : checksum & 0xFFFF
            guard kept == descriptor.blockBitmapChecksum else {
                throw .damaged("the checksum of its block bitmap \(group) is wrong")
            }
        }
        let first = groups.firstBlock(of: group)
        let ratio = superblock.clusterRatio
        let blocks = min(UInt64(superblock.blocksPerGroup), superblock.blockCount - first)
        let clusters = Int((blocks + ratio - 1) / ratio)
        let start = first * blockSize
        let clusterSize = ratio * blockSize
        let setCount = Bitmap.forEachRun(in: bitmaps, at: offset, bitCount: clusters) { run in
            used.append(start + UInt64(run.lowerBound) * clusterSize..<start + UInt64(run.upperBound) * clusterSize)
        }
        guard let setCount, clusters - setCount == Int(descriptor.freeClusterCount) else {
            throw .damaged("its block bitmap \(group) contradicts the free blocks that are counted for it")
        }
    }

    /// The blocks used by a group's metadata ("Layout" §2.1): the backup of superblock and descriptors with the blocks
    /// reserved behind them, both bitmaps and the inode table.
    private mutating func insertMetadata(
        of descriptor: ExtGroupDescriptor, _ group: UInt64
    ) throws(FilesystemError) {
        let first = groups.firstBlock(of: group)
        try insertMetadata(first, count: groups.backupBlockCount(group), isClipped: true)
        try insertMetadata(descriptor.blockBitmap, count: 1)
        try insertMetadata(descriptor.inodeBitmap, count: 1)
        try insertMetadata(descriptor.inodeTable, count: superblock.inodeTableBlockCount)
    }

    private mutating func insertMetadata(
        _ block: UInt64, count: UInt64, isClipped: Bool = false
    ) throws(FilesystemError) {
        guard block < superblock.blockCount, isClipped || block > 0 else {
            throw .damaged("a group descriptor points outside the filesystem")
        }
        guard count <= superblock.blockCount - block || isClipped else {
            throw .damaged("a group descriptor points outside the filesystem")
        }
        guard count > 0 else { return }
        // A cluster is allocated as a whole.
        let base = UInt64(superblock.firstDataBlock)
        let ratio = superblock.clusterRatio
        let last = block + min(count, superblock.blockCount - block) - 1
        let start = block < base ? block : base + (block - base) / ratio * ratio
        let end = last < base ? last + 1 : min(base + ((last - base) / ratio + 1) * ratio, superblock.blockCount)
        metadata.insert(start * blockSize..<end * blockSize)
    }

    // MARK: Who else may be writing

    /// MMP ("Multiple Mount Protection" §4.5): a sequence number other than "clean" means that it is open elsewhere.
    private func checkMultiMountProtection() throws(FilesystemError) {
        guard superblock.has(incompatible: ExtFeature.multiMountProtection) else { return }
        let bytes = try groups.read(superblock.mmpBlock, byteCount: 1024, "the multiple-mount protection")
        let (magic, sequence) = try FilesystemError.parsing { () throws(ParsingError) in
            (try bytes.littleEndian(UInt32.self, at: 0), try bytes.littleEndian(UInt32.self, at: 4))
        }
        guard magic == 0x004D_4D50 else { throw .damaged("its multiple-mount protection is not valid") }
        guard sequence == 0xFF4D_4D50 else { throw .damaged("it is in use by another machine or a check") }
    }

    /// The journal's superblock ("Journal (jbd2)" §3.6.2) contains a first transaction while any waits for
    /// replay, and e2fsck replays it even where the filesystem's own needs_recovery flag is missing, so a
    /// restored copy would be replayed too.
    /// - Parameter firstGroup: the first descriptor, with checked places.
    private func checkJournal(_ firstGroup: ExtGroupDescriptor) throws(FilesystemError) {
        let number = UInt64(superblock.journalInode)
        // 0: the journal is on another device.
        guard superblock.has(compatible: ExtFeature.journal), number > 0 else { return }
        guard number <= UInt64(superblock.inodesPerGroup) else {
            throw .damaged("its journal is not where it should be")
        }
        let place = (number - 1) * UInt64(superblock.inodeSize)
        let inodeBytes = try groups.read(
            firstGroup.inodeTable + place / blockSize, byteCount: superblock.blockSize, "the inode of its journal")
        let start = Int(place % blockSize)
        let journal = try groups.read(firstBlock(ofInode: inodeBytes, at: start), byteCount: 1024, "its journal")
        // h_magic, s_start
        let (magic, firstTransaction) = try FilesystemError.parsing { () throws(ParsingError) in
            (try journal.bigEndian(UInt32.self, at: 0), try journal.bigEndian(UInt32.self, at: 0x1C))
        }
        guard magic == 0xC03B_3998 else { throw .damaged("its journal is not valid") }
        guard firstTransaction == 0 else { throw .damaged("its journal holds changes not yet in place") }
    }

    /// The first block of a file ("Index Nodes" §4.1, i_flags and i_block; "The Contents of inode.i_block" §4.2).
    private func firstBlock(ofInode inode: [UInt8], at start: Int) throws(FilesystemError) -> UInt64 {
        let (flags, direct) = try FilesystemError.parsing { () throws(ParsingError) in
            (
                try inode.littleEndian(UInt32.self, at: start + 0x20),
                try inode.littleEndian(UInt32.self, at: start + 0x28)
            )
        }
        guard flags & 0x80000 != 0 else { return UInt64(direct) }  // EXT4_EXTENTS_FL
        var node = inode
        var place = start + 0x28
        // The kernel allows a depth of 5.
        for _ in 0...5 {
            let entry = try FilesystemError.parsing { () throws(ParsingError) in try ExtentHead(node, at: place) }
            if entry.isLeaf { return entry.block }
            node = try groups.read(entry.block, byteCount: superblock.blockSize, "the extent tree of its journal")
            place = 0
        }
        throw .damaged("the extent tree of its journal is too deep")
    }
}

/// The first entry of a node of an extent tree ("Extent Tree" §4.2.2).
private struct ExtentHead {
    let isLeaf: Bool
    let block: UInt64

    init(_ node: [UInt8], at place: Int) throws(ParsingError) {
        guard try node.littleEndian(UInt16.self, at: place) == 0xF30A,  // eh_magic
            try node.littleEndian(UInt16.self, at: place + 2) > 0,  // eh_entries
            try node.littleEndian(UInt32.self, at: place + 12) == 0  // ee_block, ei_block
        else { throw .invalid(what: "the extent tree of its journal") }
        isLeaf = try node.littleEndian(UInt16.self, at: place + 6) == 0  // eh_depth
        // ee_len, ee_start_hi, ee_start_lo in a leaf; ei_leaf_lo, ei_leaf_hi above.
        let high = try node.littleEndian(UInt16.self, at: place + (isLeaf ? 18 : 20))
        let low = try node.littleEndian(UInt32.self, at: place + (isLeaf ? 20 : 16))
        block = UInt64(high) << 32 | UInt64(low)
    }
}

/// Ranges in any order; each is merged with the previous one where they are adjacent.
private struct RangeList {
    private(set) var ranges: [ByteRange] = []

    mutating func insert(_ range: ByteRange) {
        guard !range.isEmpty else { return }
        if let last = ranges.last, last.lowerBound <= range.lowerBound, range.lowerBound <= last.upperBound {
            ranges[ranges.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
        } else {
            ranges.append(range)
        }
    }
}
