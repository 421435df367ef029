// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The key of an item (`struct btrfs_disk_key`, 17 bytes): trees are sorted by it.
struct BtrfsKey: Comparable {
    static let byteCount = 17

    let objectID: UInt64
    let type: UInt8
    let offset: UInt64

    init(_ bytes: [UInt8], at place: Int) throws(ParsingError) {
        objectID = try bytes.littleEndian(at: place)  // objectid
        type = try bytes.littleEndian(at: place + 8)  // type
        offset = try bytes.littleEndian(at: place + 9)  // offset
    }

    static func < (left: BtrfsKey, right: BtrfsKey) -> Bool {
        (left.objectID, left.type, left.offset) < (right.objectID, right.type, right.offset)
    }
}

/// The relevant types of items (BTRFS_*_KEY in include/uapi/linux/btrfs_tree.h).
enum BtrfsItemType {
    static let extentData: UInt8 = 108
    static let rootItem: UInt8 = 132
    static let extentItem: UInt8 = 168
    static let metadataItem: UInt8 = 169
    /// TREE_BLOCK_REF, EXTENT_DATA_REF, SHARED_BLOCK_REF, SHARED_DATA_REF: the users of an extent.
    static let references: Set<UInt8> = [176, 178, 182, 184]
    static let blockGroupItem: UInt8 = 192
    static let deviceExtent: UInt8 = 204
    static let deviceItem: UInt8 = 216
    static let chunkItem: UInt8 = 228
    static let temporaryItem: UInt8 = 248
    static let deviceStatistics: UInt8 = 249
    static let deviceReplace: UInt8 = 250
}

/// Numbers of trees and other well-known objects (BTRFS_*_OBJECTID).
enum BtrfsObject {
    static let rootTree: UInt64 = 1
    static let extentTree: UInt64 = 2
    static let chunkTree: UInt64 = 3
    static let deviceTree: UInt64 = 4
    static let blockGroupTree: UInt64 = 11
    static let deviceItems: UInt64 = 1
    static let firstChunkTree: UInt64 = 256
    static let balance = UInt64.max - 3  // -4
    static let relocationTree = UInt64.max - 7  // -8
}

/// A node or leaf of a tree with a checked header and layout: entries point inside.
struct BtrfsTreeBlock {
    /// BTRFS_MAX_LEVEL.
    static let levelLimit: UInt8 = 8
    /// `struct btrfs_header`.
    static let headerByteCount = 101
    /// `struct btrfs_key_ptr` and `struct btrfs_item`.
    private static let pointerByteCount = 33
    private static let itemByteCount = 25

    /// The properties of a block according to its pointer.
    struct Expectation {
        let byteNumber: UInt64
        /// `nil` if the pointer is unknown.
        let generation: UInt64?
        let level: UInt8
        /// `nil` for a block of a subvolume: snapshots share them.
        let owner: UInt64?
    }

    /// An entry of a node.
    struct Pointer {
        let key: BtrfsKey
        let byteNumber: UInt64
        let generation: UInt64
    }

    /// An entry of a leaf; `place` and `byteCount` locate its data in `bytes`.
    struct Item {
        let key: BtrfsKey
        let place: Int
        let byteCount: Int
    }

    let bytes: [UInt8]
    let level: UInt8
    /// The tree for which it was written.
    let owner: UInt64
    let chunkTreeUUID: [UInt8]
    /// The entries of a node (level > 0).
    private(set) var pointers: [Pointer] = []
    /// The entries of a leaf (level 0).
    private(set) var items: [Item] = []

    /// Checks a block whose checksum is correct.
    init(_ bytes: [UInt8], _ expected: Expectation, metadataUUID: [UInt8]) throws(ParsingError) {
        func check(_ isRight: Bool, _ what: @autoclosure () -> String) throws(ParsingError) {
            guard isRight else { throw .invalid(what: "\(what()) of its tree block at \(expected.byteNumber)") }
        }
        self.bytes = bytes
        try check(try bytes.bytes(at: 32, count: 16) == metadataUUID, "the UUID")  // fsid
        try check(try bytes.littleEndian(UInt64.self, at: 48) == expected.byteNumber, "the address")  // bytenr
        chunkTreeUUID = try bytes.bytes(at: 64, count: 16)  // chunk_tree_uuid
        // A pointer contains the transaction that wrote the block: an older or newer one is another block.
        let generation = try bytes.littleEndian(UInt64.self, at: 80)  // generation
        try check(generation == expected.generation ?? generation, "the generation")
        owner = try bytes.littleEndian(at: 88)  // owner
        try check(owner == expected.owner ?? owner, "the owner")
        let count = Int(try bytes.littleEndian(UInt32.self, at: 96))  // nritems
        level = try bytes.littleEndian(at: 100)  // level
        try check(level == expected.level, "the level")
        let entryByteCount = level > 0 ? Self.pointerByteCount : Self.itemByteCount
        try check(count <= (bytes.count - Self.headerByteCount) / entryByteCount, "the number of entries")
        if level > 0 {
            try check(count > 0, "the number of entries")
            pointers.reserveCapacity(count)
            for index in 0..<count {
                let place = Self.headerByteCount + index * Self.pointerByteCount
                let pointer = Pointer(
                    key: try BtrfsKey(bytes, at: place),
                    byteNumber: try bytes.littleEndian(at: place + 17),  // blockptr
                    generation: try bytes.littleEndian(at: place + 25))  // generation
                try check(pointers.last.map { $0.key < pointer.key } ?? true, "the order")
                pointers.append(pointer)
            }
        } else {
            items.reserveCapacity(count)
            // Data grow from the end of the block towards the entries, without gaps (tree-checker.c,
            // __btrfs_check_leaf).
            let entriesEnd = Self.headerByteCount + count * Self.itemByteCount
            var end = bytes.count
            for index in 0..<count {
                let place = Self.headerByteCount + index * Self.itemByteCount
                let key = try BtrfsKey(bytes, at: place)
                let start = Self.headerByteCount + Int(try bytes.littleEndian(UInt32.self, at: place + 17))  // offset
                let byteCount = Int(try bytes.littleEndian(UInt32.self, at: place + 21))  // size
                try check(start >= entriesEnd && start + byteCount == end, "the layout")
                try check(items.last.map { $0.key < key } ?? true, "the order")
                items.append(Item(key: key, place: start, byteCount: byteCount))
                end = start
            }
        }
    }

    var firstKey: BtrfsKey? { pointers.first?.key ?? items.first?.key }
    var lastKey: BtrfsKey? { pointers.last?.key ?? items.last?.key }
}
