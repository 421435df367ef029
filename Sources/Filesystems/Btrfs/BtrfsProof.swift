// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Compares the map of a Btrfs with the owners of its blocks: every tree in the root tree, and the extents of all
/// files in its subvolumes. An invalid owner counts as a contradiction.
///
/// Blocks shared by snapshots are read once. Nodes, which are few, are followed from the roots down; the leaves of
/// subvolumes, which are most of the metadata, are read afterwards in the order of their addresses. Leaves of other
/// trees own no blocks, and are not read.
struct BtrfsProof {
    private let reader: BtrfsBlockReader
    private let map: AllocationMap
    private var nodes: BlockSet
    private var leaves: BlockSet

    init(_ reader: BtrfsBlockReader, _ map: AllocationMap) {
        self.reader = reader
        self.map = map
        nodes = BlockSet(unit: UInt64(reader.superblock.sectorSize))
        leaves = BlockSet(unit: UInt64(reader.superblock.sectorSize))
    }

    /// - Throws: `FilesystemError.damaged` with the first owner whose blocks are free in the map, as a sentence part.
    mutating func run() throws(FilesystemError) {
        let superblock = reader.superblock
        var walk = BtrfsTreeWalk(
            reader,
            root: BtrfsTreeBlock.Expectation(
                byteNumber: superblock.root, generation: superblock.generation, level: superblock.rootLevel,
                owner: BtrfsObject.rootTree))
        while let leaf = try walk.next() {
            for block in walk.visited { try expectUse(ofBlock: block, "tree \(BtrfsObject.rootTree)") }
            for item in leaf.items where item.key.type == BtrfsItemType.rootItem { try checkRoot(leaf, item) }
            // Free space caches of version 1 are files of the root tree.
            try checkExtents(leaf)
        }
        try leaves.forEach { address throws(FilesystemError) in
            try checkExtents(
                try reader.block(
                    BtrfsTreeBlock.Expectation(byteNumber: address, generation: nil, level: 0, owner: nil)))
        }
    }

    // MARK: Trees

    /// A tree of the root tree (struct btrfs_root_item).
    private mutating func checkRoot(
        _ leaf: BtrfsTreeBlock, _ item: BtrfsTreeBlock.Item
    ) throws(FilesystemError) {
        let tree = item.key.objectID
        let holdsFiles = Self.holdsFiles(tree)
        let (root, references, progress) = try FilesystemError.parsing { () throws(ParsingError) in
            let bytes = try leaf.bytes.bytes(at: item.place, count: item.byteCount)
            return (
                BtrfsTreeBlock.Expectation(
                    byteNumber: try bytes.littleEndian(at: 176), generation: try bytes.littleEndian(at: 160),
                    level: try bytes.littleEndian(at: 238), owner: Self.isSubvolume(tree) ? nil : tree),
                try bytes.littleEndian(UInt32.self, at: 216),  // refs
                try BtrfsKey(bytes, at: 220)  // drop_progress
            )
        }
        guard root.byteNumber != 0 else { return }
        guard root.level < BtrfsTreeBlock.levelLimit else { throw .damaged("its root tree is not valid") }
        // A subvolume in deletion still refers to blocks that it has freed.
        if references == 0, progress.objectID != 0 || progress.type != 0 || progress.offset != 0 {
            return try expectUse(ofBlock: root.byteNumber, "tree \(tree)")
        }
        try checkBlock(root, of: tree, holdsFiles: holdsFiles)
    }

    private mutating func checkBlock(
        _ expected: BtrfsTreeBlock.Expectation, of tree: UInt64, holdsFiles: Bool
    ) throws(FilesystemError) {
        try expectUse(ofBlock: expected.byteNumber, "tree \(tree)")
        guard expected.byteNumber % UInt64(reader.superblock.sectorSize) == 0,
            expected.generation.map({ $0 <= reader.superblock.generation }) ?? true
        else { throw .damaged("the address of a block of its tree \(tree) is not valid") }
        if expected.level == 0 {
            if holdsFiles { _ = try leaves.insert(expected.byteNumber) }
            return
        }
        guard try nodes.insert(expected.byteNumber) else { return }
        let node = try reader.block(expected)
        // Snapshots share blocks, which contain the id of the subvolume that they were written for.
        guard node.level > 0, expected.owner != nil || Self.isSubvolume(node.owner) else {
            throw .damaged("its tree block at \(expected.byteNumber) belongs to another tree")
        }
        for pointer in node.pointers {
            try checkBlock(
                BtrfsTreeBlock.Expectation(
                    byteNumber: pointer.byteNumber, generation: pointer.generation, level: node.level - 1,
                    owner: expected.owner), of: tree, holdsFiles: holdsFiles)
        }
    }

    /// BTRFS_FS_TREE_OBJECTID, or from BTRFS_FIRST_FREE_OBJECTID to BTRFS_LAST_FREE_OBJECTID.
    private static func isSubvolume(_ tree: UInt64) -> Bool { tree == 5 || (256...(UInt64.max - 255)).contains(tree) }
    /// Or BTRFS_DATA_RELOC_TREE_OBJECTID.
    private static func holdsFiles(_ tree: UInt64) -> Bool { isSubvolume(tree) || tree == UInt64.max - 8 }

    // MARK: Files

    /// The extents of files in a leaf (struct btrfs_file_extent_item).
    private func checkExtents(_ leaf: BtrfsTreeBlock) throws(FilesystemError) {
        for item in leaf.items where item.key.type == BtrfsItemType.extentData {
            guard item.byteCount >= 21 else {
                throw .damaged("an extent of inode \(item.key.objectID) of tree \(leaf.owner) is not valid")
            }
            // BTRFS_FILE_EXTENT_INLINE of type: the data follow.
            if leaf.bytes[item.place + 20] == 0 { continue }
            guard item.byteCount >= 53 else {
                throw .damaged("an extent of inode \(item.key.objectID) of tree \(leaf.owner) is not valid")
            }
            let (start, byteCount) = try FilesystemError.parsing { () throws(ParsingError) in
                // disk_bytenr, disk_num_bytes
                (
                    try leaf.bytes.littleEndian(UInt64.self, at: item.place + 21),
                    try leaf.bytes.littleEndian(UInt64.self, at: item.place + 29)
                )
            }
            // A hole.
            if start == 0 { continue }
            guard let range = ByteRange(offset: start, byteCount: byteCount), !range.isEmpty else {
                throw .damaged("an extent of inode \(item.key.objectID) of tree \(leaf.owner) is not valid")
            }
            try expectUse(range, "inode \(item.key.objectID) of tree \(leaf.owner)", "the extent")
        }
    }

    // MARK: The map

    private func expectUse(ofBlock address: UInt64, _ owner: @autoclosure () -> String) throws(FilesystemError) {
        guard let range = ByteRange(offset: address, byteCount: UInt64(reader.superblock.nodeSize)) else {
            throw .damaged("the address of a tree block of \(owner()) is not valid")
        }
        try expectUse(range, owner(), "the tree block")
    }

    private func expectUse(
        _ range: ByteRange, _ owner: @autoclosure () -> String, _ what: String
    ) throws(FilesystemError) {
        guard let index = reader.chunks.index(covering: range) else {
            throw .damaged("\(owner()) uses \(what) at \(range.lowerBound), which lies in no chunk")
        }
        let chunk = reader.chunks.chunks[index]
        for copy in chunk.copies {
            let start = copy + (range.lowerBound - chunk.logical.lowerBound)
            guard map.covers(start..<start + range.byteCount) else {
                throw .damaged(
                    "\(owner()) uses \(what) at \(range.lowerBound), which its extent tree calls free")
            }
        }
    }
}
