// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport

@testable import Filesystems

/// The bytes of a small Btrfs, to be changed block by block with repaired checksums.
struct BtrfsFixture {
    var bytes: [UInt8]
    let superblock: BtrfsSuperblock
    let nodeSize: Int

    init(_ bytes: [UInt8]) throws {
        self.bytes = bytes
        guard let superblock = try BtrfsSuperblock(Array(bytes[65536..<65536 + 4096])) else {
            throw ToolFailure(description: "no superblock")
        }
        self.superblock = superblock
        nodeSize = Int(superblock.nodeSize)
    }

    /// Filled by `mkfs.btrfs` itself: no root needed.
    static func make(_ arguments: [String], byteCount: UInt64, files: Int = 60) throws -> BtrfsFixture {
        let bench = try Workbench()
        var random = SeededGenerator(seed: 1)
        try bench.randomTree("tree", files: files, maximumByteCount: 9000, using: &random)
        let image = try bench.sparseFile("image", byteCount: byteCount)
        try Tool.run(["mkfs.btrfs", "-q", "-f", "-r", bench.path("tree").string] + arguments + [image.string])
        return try BtrfsFixture(try BlockDevice(opening: image).readBytes(at: 0, count: Int(byteCount)))
    }

    /// Repairs the checksum of a superblock or tree block.
    static func mend(_ block: inout [UInt8], _ checksum: BtrfsChecksum = .crc32c) {
        let field = checksum.field(block)
        block.replaceSubrange(0..<field.count, with: field)
    }

    /// Changes the superblock copy at `offset`.
    mutating func changeSuperblock(at offset: Int = 65536, _ change: (inout [UInt8]) throws -> Void) rethrows {
        var block = Array(bytes[offset..<offset + 4096])
        try change(&block)
        Self.mend(&block)
        bytes.replaceSubrange(offset..<offset + 4096, with: block)
    }

    /// The places of valid tree blocks of a generation; with an owner, only that one's.
    func blocks(owner: UInt64? = nil) throws -> [Int] {
        let checksum = BtrfsChecksum(rawValue: superblock.checksumType) ?? .crc32c
        var found: [Int] = []
        for place in stride(from: 0, to: bytes.count - nodeSize + 1, by: 4096)
        where bytes[place + 32] == superblock.metadataUUID[0] && place != 65536 {
            let block = Array(bytes[place..<place + nodeSize])
            guard try block.bytes(at: 32, count: 16) == superblock.metadataUUID, checksum.isRight(block),
                try owner == nil || block.littleEndian(UInt64.self, at: 88) == owner
            else { continue }
            found.append(place)
        }
        return found
    }

    /// The leaf at a place.
    func leaf(at place: Int) throws -> BtrfsEditedLeaf { try BtrfsEditedLeaf(Array(bytes[place..<place + nodeSize])) }

    mutating func store(_ leaf: BtrfsEditedLeaf, at place: Int) {
        bytes.replaceSubrange(place..<place + nodeSize, with: leaf.bytes)
    }
}

/// A leaf as a list of items, to be changed and written back.
struct BtrfsEditedLeaf {
    struct Item {
        var objectID: UInt64
        var type: UInt8
        var offset: UInt64
        var data: [UInt8]
    }

    var header: [UInt8]
    var items: [Item] = []
    private let byteCount: Int

    init(_ block: [UInt8]) throws {
        header = Array(block[..<101])
        byteCount = block.count
        for index in 0..<Int(try block.littleEndian(UInt32.self, at: 96)) {
            let place = 101 + index * 25
            let key = try BtrfsKey(block, at: place)
            let start = 101 + Int(try block.littleEndian(UInt32.self, at: place + 17))
            let count = Int(try block.littleEndian(UInt32.self, at: place + 21))
            items.append(
                Item(
                    objectID: key.objectID, type: key.type, offset: key.offset,
                    data: try block.bytes(at: start, count: count)))
        }
    }

    /// The block, with its items in order and a correct checksum.
    var bytes: [UInt8] {
        var block = header + [UInt8](repeating: 0, count: byteCount - header.count)
        let sorted = items.sorted { ($0.objectID, $0.type, $0.offset) < ($1.objectID, $1.type, $1.offset) }
        block.setLittleEndian(UInt32(sorted.count), at: 96)
        var end = byteCount
        for (index, item) in sorted.enumerated() {
            end -= item.data.count
            let place = 101 + index * 25
            block.setLittleEndian(item.objectID, at: place)
            block[place + 8] = item.type
            block.setLittleEndian(item.offset, at: place + 9)
            block.setLittleEndian(UInt32(end - 101), at: place + 17)
            block.setLittleEndian(UInt32(item.data.count), at: place + 21)
            block.replaceSubrange(end..<end + item.data.count, with: item.data)
        }
        BtrfsFixture.mend(&block)
        return block
    }
}

extension BtrfsFixture {
    /// Moves the block group items into their own tree, as `mkfs.btrfs -O block-group-tree` does and older tools
    /// cannot: for a fresh filesystem with one leaf per tree, single metadata and a free space tree.
    mutating func addBlockGroupTree() throws {
        func only(_ owner: UInt64) throws -> (Int, BtrfsEditedLeaf) {
            let places = try blocks(owner: owner)
            let newest = try places.max { try generation($0) < generation($1) }
            guard let place = newest else { throw ToolFailure(description: "no tree \(owner)") }
            return (place, try leaf(at: place))
        }
        var (extentPlace, extents) = try only(BtrfsObject.extentTree)
        var (rootPlace, roots) = try only(BtrfsObject.rootTree)
        var (spacePlace, space) = try only(10)  // BTRFS_FREE_SPACE_TREE_OBJECTID
        let (_, chunks) = try only(BtrfsObject.chunkTree)
        // The metadata chunk, and the largest free extent in it: FREE_SPACE_EXTENT (start, 199, length).
        guard
            let chunk = try chunks.items.first(where: {
                try $0.type == BtrfsItemType.chunkItem
                    && $0.data.littleEndian(UInt64.self, at: 24) == BtrfsChunk.metadata
            }),
            let length = try? chunk.data.littleEndian(UInt64.self, at: 0),
            let free = space.items.indices.filter({
                space.items[$0].type == 199 && (chunk.offset..<chunk.offset + length).contains(space.items[$0].objectID)
            }).max(by: { space.items[$0].offset < space.items[$1].offset }),
            let extentRoot = roots.items.firstIndex(where: { $0.objectID == 2 && $0.type == BtrfsItemType.rootItem })
        else { throw ToolFailure(description: "not the expected layout") }
        let logical = space.items[free].objectID
        space.items[free].objectID += UInt64(nodeSize)
        space.items[free].offset -= UInt64(nodeSize)

        var groups = extents
        groups.items = extents.items.filter { $0.type == BtrfsItemType.blockGroupItem }
        guard let group = groups.items.firstIndex(where: { $0.objectID == chunk.offset }) else {
            throw ToolFailure(description: "not the expected layout")
        }
        let used = try groups.items[group].data.littleEndian(UInt64.self, at: 0)
        groups.items[group].data.setLittleEndian(used + UInt64(nodeSize), at: 0)
        groups.header.setLittleEndian(logical, at: 48)
        groups.header.setLittleEndian(BtrfsObject.blockGroupTree, at: 88)

        extents.items.removeAll { $0.type == BtrfsItemType.blockGroupItem }
        var item: [UInt8] = []
        item.appendLittleEndian(1 as UInt64)
        item.appendLittleEndian(try extents.header.littleEndian(UInt64.self, at: 80))
        item.appendLittleEndian(2 as UInt64)
        item.append(176)
        item.appendLittleEndian(BtrfsObject.blockGroupTree)
        extents.items.append(.init(objectID: logical, type: BtrfsItemType.metadataItem, offset: 0, data: item))

        var root = roots.items[extentRoot]
        root.objectID = BtrfsObject.blockGroupTree
        root.data.setLittleEndian(logical, at: 176)
        roots.items.append(root)

        store(extents, at: extentPlace)
        store(roots, at: rootPlace)
        store(space, at: spacePlace)
        let physical = try chunk.data.littleEndian(UInt64.self, at: 48 + 8) + logical - chunk.offset
        store(groups, at: Int(physical))
        let grown = UInt64(nodeSize)
        for offset in [65536, 64 << 20] where offset < bytes.count {
            try changeSuperblock(at: offset) { block in
                block.setLittleEndian(try block.littleEndian(UInt64.self, at: 120) + grown, at: 120)
                block.setLittleEndian(
                    try block.littleEndian(UInt64.self, at: 180) | BtrfsFeature.blockGroupTree, at: 180)
            }
        }
    }

    private func generation(_ place: Int) throws -> UInt64 { try bytes.littleEndian(at: place + 80) }
}
