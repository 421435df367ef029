// SPDX-License-Identifier: GPL-3.0-or-later
internal import ByteParsing
import DiskModel

/// One of the two B+trees of an allocation group's free space, by place and by size; they hold the same records (kernel,
/// `fs/xfs/libxfs/xfs_format.h`: struct xfs_btree_block, xfs_alloc_rec; "XFS Algorithms & Data Structures", "AG Free
/// Space B+trees").
struct XFSFreeSpaceTree {
    enum Order {
        case place, size

        /// Without checksums and with (XFS_ABTB_MAGIC, XFS_ABTB_CRC_MAGIC, XFS_ABTC_MAGIC, XFS_ABTC_CRC_MAGIC).
        func magic(_ hasChecksums: Bool) -> UInt32 {
            switch self {
            case .place: hasChecksums ? 0x4142_3342 : 0x4142_5442
            case .size: hasChecksums ? 0x4142_3343 : 0x4142_5443
            }
        }
    }

    /// No block (NULLAGBLOCK).
    private static let none: UInt32 = .max

    private let volume: any BlockReader
    private let superblock: XFSSuperblock
    private let group: XFSAllocationGroup
    private let order: Order
    /// The newest sequence number that metadata may have.
    private let head: UInt64

    /// The blocks of the tree, inside the group.
    private(set) var blocks: [UInt32] = []
    private(set) var freeBlockCount: UInt64 = 0
    /// The same for the same records in any order.
    private(set) var fingerprint: UInt64 = 0
    private var last: (start: UInt32, count: UInt32)?
    /// For each level, the last block seen and what it names as its right neighbour.
    private var rightmost: [(block: UInt32, right: UInt32)?]

    init(
        _ volume: any BlockReader, _ superblock: XFSSuperblock, _ group: XFSAllocationGroup, _ order: Order,
        head: UInt64
    ) {
        self.volume = volume
        self.superblock = superblock
        self.group = group
        self.order = order
        self.head = head
        rightmost = Array(repeating: nil, count: Int(XFSAllocationGroup.levelLimit))
    }

    /// Walks all of it, and hands each range of free blocks to `body`, in the order of the tree.
    ///
    /// Every leaf but an empty root holds records that come after all before, and every node leads to a leaf: whatever
    /// the pointers say, no leaf is seen twice, so the walk ends.
    mutating func walk(_ body: (Range<UInt32>) -> Void) throws(FilesystemError) {
        let root = order == .place ? group.byPlace : group.bySize
        try walk(root.block, level: root.levelCount - 1, isRoot: true, body)
        guard rightmost.allSatisfy({ $0 == nil || $0?.right == Self.none }) else { throw damaged }
        guard freeBlockCount == UInt64(group.freeBlockCount) else {
            throw .damaged(
                "a free-space tree contradicts the free blocks that are counted for its group \(group.number)")
        }
    }

    private var damaged: FilesystemError {
        .damaged("a free-space tree of its allocation group \(group.number) is not valid")
    }

    private mutating func walk(
        _ block: UInt32, level: UInt32, isRoot: Bool, _ body: (Range<UInt32>) -> Void
    ) throws(FilesystemError) {
        let bytes = try read(block)
        let recordCount = try checkHeader(bytes, block, level)
        let isEmptyRoot = isRoot && level == 0 && recordCount == 0
        guard recordCount > 0 || isEmptyRoot else { throw damaged }
        let start = superblock.hasChecksums ? 56 : 16
        // A leaf: records of 8 bytes. A node: keys of 8 bytes, all of them in front of the pointers of 4.
        let limit = (bytes.count - start) / (level == 0 ? 8 : 12)
        guard recordCount <= limit else { throw damaged }
        blocks.append(block)
        for index in 0..<recordCount {
            if level == 0 {
                try take(bytes, at: start + index * 8, body)
            } else {
                let child = try FilesystemError.parsing { () throws(ParsingError) in
                    try bytes.bigEndian(UInt32.self, at: start + limit * 8 + index * 4)
                }
                try walk(child, level: level - 1, isRoot: false, body)
            }
        }
    }

    /// A record (struct xfs_alloc_rec: ar_startblock, ar_blockcount).
    private mutating func take(
        _ bytes: [UInt8], at place: Int, _ body: (Range<UInt32>) -> Void
    ) throws(FilesystemError) {
        let (start, count) = try FilesystemError.parsing { () throws(ParsingError) in
            (try bytes.bigEndian(UInt32.self, at: place), try bytes.bigEndian(UInt32.self, at: place + 4))
        }
        guard count > 0, start < group.blockCount, count <= group.blockCount - start else { throw damaged }
        if let last {
            // By place, two that touch would be one.
            let follows =
                order == .place
                ? start > last.start + last.count : (count, start) > (last.count, last.start)
            guard follows else { throw damaged }
        }
        last = (start, count)
        freeBlockCount += UInt64(count)
        guard freeBlockCount <= UInt64(group.freeBlockCount) else {
            throw .damaged(
                "a free-space tree contradicts the free blocks that are counted for its group \(group.number)")
        }
        fingerprint &+= Self.mixed(UInt64(start) << 32 | UInt64(count))
        body(start..<start + count)
    }

    /// Spreads a number over all bits (the finisher of SplitMix64), so that sums differ where records do.
    private static func mixed(_ value: UInt64) -> UInt64 {
        var mixed = value &+ 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }

    /// The number of records of a block: struct xfs_btree_block with the short form of struct xfs_btree_block_shdr.
    private mutating func checkHeader(
        _ bytes: [UInt8], _ block: UInt32, _ level: UInt32
    ) throws(FilesystemError) -> Int {
        if superblock.hasChecksums, !XFSChecksum.isRight(bytes, fieldAt: XFSChecksum.treeBlockOffset) {
            throw .damaged("the checksum of a free-space tree of its allocation group \(group.number) is wrong")
        }
        let fields = try FilesystemError.parsing { () throws(ParsingError) in
            // bb_magic, bb_level, bb_numrecs, bb_leftsib, bb_rightsib
            (
                magic: try bytes.bigEndian(UInt32.self, at: 0), level: try bytes.bigEndian(UInt16.self, at: 4),
                recordCount: Int(try bytes.bigEndian(UInt16.self, at: 6)),
                left: try bytes.bigEndian(UInt32.self, at: 8), right: try bytes.bigEndian(UInt32.self, at: 12)
            )
        }
        let isOwn = superblock.hasChecksums ? try namesItself(bytes, block) : true
        let neighbour = rightmost[Int(level)]
        guard fields.magic == order.magic(superblock.hasChecksums), UInt32(fields.level) == level, isOwn,
            fields.left == neighbour?.block ?? Self.none, neighbour?.right ?? block == block
        else { throw damaged }
        rightmost[Int(level)] = (block, fields.right)
        return fields.recordCount
    }

    /// What version 5 adds: bb_blkno (in units of 512 bytes), bb_lsn, bb_uuid, bb_owner.
    private func namesItself(_ bytes: [UInt8], _ block: UInt32) throws(FilesystemError) -> Bool {
        let fields = try FilesystemError.parsing { () throws(ParsingError) in
            (
                place: try bytes.bigEndian(UInt64.self, at: 16), lsn: try bytes.bigEndian(UInt64.self, at: 24),
                uuid: try bytes.bytes(at: 32, count: 16), owner: try bytes.bigEndian(UInt32.self, at: 48)
            )
        }
        return fields.place == offset(of: block) / 512 && XFSMapper.isPlausible(lsn: fields.lsn, head: head)
            && fields.uuid == superblock.metadataUUID && fields.owner == group.number
    }

    private func offset(of block: UInt32) -> UInt64 {
        superblock.offset(ofGroup: UInt64(group.number)) + UInt64(block) * UInt64(superblock.blockSize)
    }

    private func read(_ block: UInt32) throws(FilesystemError) -> [UInt8] {
        guard block < group.blockCount else { throw damaged }
        return try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: offset(of: block), count: Int(superblock.blockSize))
        }
    }
}
