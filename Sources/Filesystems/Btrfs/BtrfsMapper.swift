// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Reads the trees of a Btrfs with a valid superblock: chunk tree, root tree, device tree, and the extent tree, which
/// has an item for every used range of data and metadata.
///
/// Btrfs never overwrites blocks of the last commit, so that commit is consistent, even after a crash. Blocks that
/// only earlier commits used (the superblock's four backup roots point to some) may be overwritten at any time, and
/// count as unused. Any inconsistency ends the work with `FilesystemError.damaged`: the volume is then taken whole.
struct BtrfsMapper {
    /// The limit of tree block addresses kept to check that they are in the map.
    private static let checkedBlockLimit = 1 << 20

    private let superblock: BtrfsSuperblock
    private let volumeByteCount: UInt64
    private var reader: BtrfsBlockReader
    private var roots: [UInt64: BtrfsTreeBlock.Expectation] = [:]
    private var blockGroups: [BtrfsBlockGroup?] = []
    /// Tree blocks that must be in the map.
    private var checkedBlocks: [UInt64] = []

    init(
        _ volume: any BlockReader, _ superblock: BtrfsSuperblock, _ checksum: BtrfsChecksum
    ) throws(FilesystemError) {
        self.superblock = superblock
        volumeByteCount = volume.byteCount
        reader = BtrfsBlockReader(
            volume: volume, superblock: superblock, checksum: checksum,
            chunks: try BtrfsChunkMap(systemChunksOf: superblock))
    }

    /// The map, and the least length to which the filesystem can shrink.
    mutating func map() throws(FilesystemError) -> (map: AllocationMap, leastByteCount: UInt64) {
        try readChunkTree()
        try readRootTree()
        try readDeviceTree()
        blockGroups = Array(repeating: nil, count: reader.chunks.chunks.count)
        if superblock.has(readOnlyCompatible: BtrfsFeature.blockGroupTree) { try readBlockGroupTree() }
        let map = try readExtentTree()
        for block in checkedBlocks {
            let places = reader.chunks.places(of: block..<block + UInt64(superblock.nodeSize))
            guard !places.isEmpty, places.allSatisfy(map.covers) else {
                throw .damaged("its extent tree does not know the tree block at \(block)")
            }
        }
        let extents = reader.chunks.chunks.flatMap(\.physicalRanges)
        return (map, BtrfsLeastSize.byteCount(of: superblock, deviceExtents: extents))
    }

    /// The reader of tree blocks at all addresses.
    mutating func blockReader() throws(FilesystemError) -> BtrfsBlockReader {
        try readChunkTree()
        return reader
    }

    // MARK: Chunk tree

    private mutating func readChunkTree() throws(FilesystemError) {
        let root = BtrfsTreeBlock.Expectation(
            byteNumber: superblock.chunkRoot, generation: superblock.chunkRootGeneration,
            level: superblock.chunkRootLevel, owner: BtrfsObject.chunkTree)
        reader.chunkTreeUUID = try reader.block(root).chunkTreeUUID
        var chunks: [BtrfsChunk] = []
        var deviceCount = 0
        let blocks = try forEachItem(of: root) { block, item throws(FilesystemError) in
            switch (item.key.objectID, item.key.type) {
            case (BtrfsObject.firstChunkTree, BtrfsItemType.chunkItem):
                let chunk = try BtrfsChunk(block.bytes, at: item.place, logicalStart: item.key.offset, of: superblock)
                guard chunk.itemByteCount == item.byteCount, chunks.count < BtrfsChunkMap.limit else {
                    throw .damaged(
                        "its chunk at \(item.key.offset) is not valid, or there are more than are mapped here")
                }
                chunks.append(chunk)
            case (BtrfsObject.deviceItems, BtrfsItemType.deviceItem)
            where item.byteCount == BtrfsDeviceItem.byteCount:
                let device = try FilesystemError.parsing { () throws(ParsingError) in
                    try BtrfsDeviceItem(block.bytes, at: item.place)
                }
                deviceCount += 1
                guard device == superblock.device, deviceCount == 1 else {
                    throw .damaged("its chunk tree names another device")
                }
            default: throw .damaged("its chunk tree holds an item of type \(item.key.type) that is not known here")
            }
        }
        checkedBlocks += blocks
        guard deviceCount == 1 else { throw .damaged("its chunk tree does not name its device") }
        let all = try BtrfsChunkMap(chunks)
        // The superblock's table contains exactly the system chunks of the chunk tree.
        guard all.chunks.filter({ $0.type & BtrfsChunk.system != 0 }) == reader.chunks.chunks else {
            throw .damaged("its table of system chunks contradicts its chunk tree")
        }
        let extents = chunks.flatMap(\.physicalRanges).sorted { $0.lowerBound < $1.lowerBound }
        for (extent, next) in zip(extents, extents.dropFirst()) where extent.overlaps(next) {
            throw .damaged("its chunks overlap on the device")
        }
        reader.chunks = all
    }

    // MARK: Root tree

    private mutating func readRootTree() throws(FilesystemError) {
        let root = BtrfsTreeBlock.Expectation(
            byteNumber: superblock.root, generation: superblock.generation, level: superblock.rootLevel,
            owner: BtrfsObject.rootTree)
        var roots: [UInt64: BtrfsTreeBlock.Expectation] = [:]
        let wanted = [BtrfsObject.extentTree, BtrfsObject.deviceTree, BtrfsObject.blockGroupTree]
        var others: [UInt64] = []
        let blocks = try forEachItem(of: root) { block, item throws(FilesystemError) in
            let key = item.key
            if key.objectID == BtrfsObject.balance, key.type == BtrfsItemType.temporaryItem {
                throw .damaged("a balance of it is under way")
            }
            guard key.type == BtrfsItemType.rootItem else { return }
            guard key.objectID != BtrfsObject.relocationTree else {
                throw .damaged("a relocation of its chunks is under way")
            }
            // struct btrfs_root_item: 239 bytes before generation_v2.
            guard item.byteCount >= 239 else { throw .damaged("its root tree is not valid") }
            let found = try FilesystemError.parsing { () throws(ParsingError) in
                BtrfsTreeBlock.Expectation(
                    byteNumber: try block.bytes.littleEndian(at: item.place + 176),  // bytenr
                    generation: try block.bytes.littleEndian(at: item.place + 160),  // generation
                    level: try block.bytes.littleEndian(at: item.place + 238),  // level
                    owner: key.objectID)
            }
            guard found.byteNumber <= .max - UInt64(superblock.nodeSize) else {
                throw .damaged("its root tree is not valid")
            }
            if wanted.contains(key.objectID) {
                guard key.offset == 0, found.level < BtrfsTreeBlock.levelLimit else {
                    throw .damaged("its root tree is not valid")
                }
                roots[key.objectID] = found
            } else if found.byteNumber != 0, others.count < Self.checkedBlockLimit {
                others.append(found.byteNumber)
            }
        }
        checkedBlocks += blocks
        self.roots = roots
        checkedBlocks += others
    }

    // MARK: Device tree

    /// Every device extent must be a copy of a chunk and vice versa, and no device may be in replacement.
    private mutating func readDeviceTree() throws(FilesystemError) {
        var count = 0
        let chunks = reader.chunks
        let blocks = try forEachItem(of: try tree(BtrfsObject.deviceTree)) { block, item throws(FilesystemError) in
            switch item.key.type {
            case BtrfsItemType.deviceExtent where item.byteCount >= 48:
                let (logical, length) = try FilesystemError.parsing { () throws(ParsingError) in
                    (
                        try block.bytes.littleEndian(UInt64.self, at: item.place + 16),  // chunk_offset
                        try block.bytes.littleEndian(UInt64.self, at: item.place + 24)  // length
                    )
                }
                guard item.key.objectID == superblock.device.id,
                    let range = ByteRange(offset: logical, byteCount: length),
                    let index = chunks.index(covering: range), chunks.chunks[index].logical == range,
                    chunks.chunks[index].copies.contains(item.key.offset)
                else { throw .damaged("its device tree contradicts its chunk tree") }
                count += 1
            case BtrfsItemType.deviceReplace where item.byteCount >= 72:
                let state = try FilesystemError.parsing { () throws(ParsingError) in
                    try block.bytes.littleEndian(UInt64.self, at: item.place + 32)  // replace_state
                }
                // BTRFS_DEV_REPLACE_ITEM_STATE_*: 0 never started, 3 finished, 4 cancelled.
                guard [0, 3, 4].contains(state) else { throw .damaged("the replacement of a device is under way") }
            case BtrfsItemType.deviceStatistics: break
            default: throw .damaged("its device tree holds an item of type \(item.key.type) that is not known here")
            }
        }
        checkedBlocks += blocks
        guard count == chunks.chunks.reduce(0, { $0 + $1.copies.count }) else {
            throw .damaged("its device tree contradicts its chunk tree")
        }
    }

    // MARK: Block groups and extents

    private mutating func readBlockGroupTree() throws(FilesystemError) {
        let (chunks, empty) = (reader.chunks, blockGroups)
        var groups = empty
        let blocks = try forEachItem(of: try tree(BtrfsObject.blockGroupTree)) { block, item throws(FilesystemError) in
            guard item.key.type == BtrfsItemType.blockGroupItem else {
                throw .damaged("its block group tree holds an item of type \(item.key.type) that is not known here")
            }
            try BtrfsBlockGroup.add(block, item, chunks, to: &groups)
        }
        checkedBlocks += blocks
        blockGroups = groups
    }

    private mutating func readExtentTree() throws(FilesystemError) -> AllocationMap {
        let hasOwnTree = superblock.has(readOnlyCompatible: BtrfsFeature.blockGroupTree)
        var used = BtrfsUsedRanges(superblock, reader.chunks, volumeByteCount: volumeByteCount)
        let chunks = reader.chunks
        var groups = blockGroups
        let blocks = try forEachItem(of: try tree(BtrfsObject.extentTree)) { block, item throws(FilesystemError) in
            switch item.key.type {
            case BtrfsItemType.extentItem, BtrfsItemType.metadataItem: try used.add(block, item)
            case BtrfsItemType.blockGroupItem where !hasOwnTree:
                try BtrfsBlockGroup.add(block, item, chunks, to: &groups)
            case let type where BtrfsItemType.references.contains(type): break
            default: throw .damaged("its extent tree holds an item of type \(item.key.type) that is not known here")
            }
        }
        checkedBlocks += blocks
        return try used.map(blockGroups: groups)
    }

    private func tree(_ number: UInt64) throws(FilesystemError) -> BtrfsTreeBlock.Expectation {
        guard let root = roots[number] else { throw .damaged("its root tree does not name tree \(number)") }
        return root
    }

    /// Calls `body` with every item of a tree, in ascending order.
    /// - Returns: the addresses of the tree's blocks, up to a limit.
    private func forEachItem(
        of root: BtrfsTreeBlock.Expectation,
        _ body: (BtrfsTreeBlock, BtrfsTreeBlock.Item) throws(FilesystemError) -> Void
    ) throws(FilesystemError) -> [UInt64] {
        var walk = BtrfsTreeWalk(reader, root: root)
        var blocks: [UInt64] = []
        while let leaf = try walk.next() {
            blocks += walk.visited.prefix(Self.checkedBlockLimit - blocks.count)
            for item in leaf.items { try body(leaf, item) }
        }
        return blocks
    }
}
