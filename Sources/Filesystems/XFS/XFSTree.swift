// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A B+tree of XFS (kernel, `fs/xfs/libxfs/xfs_format.h`, struct xfs_btree_block; "XFS Algorithms & Data Structures",
/// "Fixed Length Record B+trees"), walked with a check of every header.
///
/// The left neighbour of each block must be the previous block of its level. So no block occurs twice, and the walk
/// ends, whatever the pointers.
struct XFSTree {
    struct Kind {
        /// Without and with checksums.
        let magic: (bare: UInt32, checked: UInt32)
        let recordByteCount: Int
        /// The length of an entry of a node before its pointer.
        let keyByteCount: Int

        /// XFS_ABTB_MAGIC, XFS_ABTC_MAGIC: free space by place and by size (struct xfs_alloc_rec).
        static let freeSpaceByPlace = Kind(magic: (0x4142_5442, 0x4142_3342), recordByteCount: 8, keyByteCount: 8)
        static let freeSpaceBySize = Kind(magic: (0x4142_5443, 0x4142_3343), recordByteCount: 8, keyByteCount: 8)
        /// XFS_IBT_MAGIC, XFS_FIBT_MAGIC: all chunks of inodes, and those with free ones (struct xfs_inobt_rec).
        static let inodes = Kind(magic: (0x4941_4254, 0x4941_4233), recordByteCount: 16, keyByteCount: 4)
        static let freeInodes = Kind(magic: (0x4649_4254, 0x4649_4233), recordByteCount: 16, keyByteCount: 4)
        /// XFS_RMAP_CRC_MAGIC (struct xfs_rmap_rec); nodes contain the lowest and the highest key below.
        static let owners = Kind(magic: (0x524D_4233, 0x524D_4233), recordByteCount: 24, keyByteCount: 40)
        /// XFS_REFC_CRC_MAGIC (struct xfs_refcount_rec).
        static let references = Kind(magic: (0x5233_4643, 0x5233_4643), recordByteCount: 12, keyByteCount: 4)
        /// XFS_BMAP_MAGIC (struct xfs_bmbt_rec).
        static let extents = Kind(magic: (0x424D_4150, 0x424D_4133), recordByteCount: 16, keyByteCount: 8)
    }

    /// The owner of the tree, and the numbering of its blocks.
    enum Owner {
        /// By place in the group, in 32 bits ("short form").
        case group(UInt32)
        /// By number in the filesystem, in 64 bits ("long form").
        case inode(UInt64)
    }

    enum Visit {
        /// A block of the tree: its place on the volume.
        case block(ByteRange)
        /// A record, inside the bytes of a leaf.
        case record([UInt8], place: Int)
    }

    /// XFS_BTREE_MAXLEVELS.
    static let levelLimit = 9

    private let volume: any BlockReader
    private let superblock: XFSSuperblock
    private let kind: Kind
    private let owner: Owner
    private let name: String
    /// The newest sequence number that metadata may have.
    private let head: UInt64
    /// For each level, the last block read and its right neighbour.
    private var rightmost: [(block: UInt64, right: UInt64)?]

    /// - Parameter name: for messages: "the extent tree of inode 131".
    init(
        _ volume: any BlockReader, _ superblock: XFSSuperblock, _ kind: Kind, _ owner: Owner, name: String,
        head: UInt64 = .max
    ) {
        self.volume = volume
        self.superblock = superblock
        self.kind = kind
        self.owner = owner
        self.name = name
        self.head = head
        rightmost = Array(repeating: nil, count: Self.levelLimit)
    }

    var damaged: FilesystemError { .damaged("\(name) is not valid") }

    /// Walks a whole tree whose root is a block, in the order of its records.
    mutating func walk(
        root: UInt64, levelCount: UInt32, _ body: (Visit) throws(FilesystemError) -> Void
    ) throws(FilesystemError) {
        guard levelCount >= 1, levelCount <= Self.levelLimit else { throw damaged }
        try walk(root, level: Int(levelCount) - 1, isRoot: true, body)
        try finish()
    }

    /// Walks a tree whose root is elsewhere: its pointers lead to blocks of `level`.
    mutating func walk(
        below pointers: [UInt64], level: Int, _ body: (Visit) throws(FilesystemError) -> Void
    ) throws(FilesystemError) {
        guard level >= 0, level < Self.levelLimit else { throw damaged }
        for pointer in pointers { try walk(pointer, level: level, isRoot: false, body) }
        try finish()
    }

    private var isLong: Bool { if case .inode = owner { true } else { false } }
    /// The null block: NULLAGBLOCK, NULLFSBLOCK.
    private var none: UInt64 { isLong ? .max : UInt64(UInt32.max) }

    private func finish() throws(FilesystemError) {
        let none = none
        guard rightmost.allSatisfy({ $0.map { $0.right == none } ?? true }) else { throw damaged }
    }

    private mutating func walk(
        _ block: UInt64, level: Int, isRoot: Bool, _ body: (Visit) throws(FilesystemError) -> Void
    ) throws(FilesystemError) {
        let range = try range(of: block)
        let bytes = try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: range.lowerBound, count: Int(superblock.blockSize))
        }
        let recordCount = try checkHeader(bytes, block, range, level)
        // Only a root that is a leaf may be empty.
        guard recordCount > 0 || isRoot && level == 0 else { throw damaged }
        let start = (isLong ? 24 : 16) + (superblock.hasChecksums ? isLong ? 48 : 40 : 0)
        // A leaf has records; a node has its keys, and after the room for all keys its pointers.
        let pointerByteCount = isLong ? 8 : 4
        let limit =
            (bytes.count - start) / (level == 0 ? kind.recordByteCount : kind.keyByteCount + pointerByteCount)
        guard recordCount <= limit else { throw damaged }
        try body(.block(range))
        for index in 0..<recordCount {
            if level == 0 {
                try body(.record(bytes, place: start + index * kind.recordByteCount))
            } else {
                let place = start + limit * kind.keyByteCount + index * pointerByteCount
                let child = try number(bytes, at: place)
                try walk(child, level: level - 1, isRoot: false, body)
            }
        }
    }

    /// The number of records of a block: struct xfs_btree_block with the form of struct xfs_btree_block_shdr or _lhdr.
    private mutating func checkHeader(
        _ bytes: [UInt8], _ block: UInt64, _ range: ByteRange, _ level: Int
    ) throws(FilesystemError) -> Int {
        if superblock.hasChecksums {
            let field = isLong ? XFSChecksum.longTreeBlockOffset : XFSChecksum.treeBlockOffset
            guard XFSChecksum.isRight(bytes, fieldAt: field) else { throw .damaged("the checksum of \(name) is wrong") }
        }
        let fields = try FilesystemError.parsing { () throws(ParsingError) in
            // bb_magic, bb_level, bb_numrecs
            (
                magic: try bytes.bigEndian(UInt32.self, at: 0), level: Int(try bytes.bigEndian(UInt16.self, at: 4)),
                recordCount: Int(try bytes.bigEndian(UInt16.self, at: 6))
            )
        }
        // bb_leftsib, bb_rightsib
        let (left, right) = (try number(bytes, at: 8), try number(bytes, at: isLong ? 16 : 12))
        let isOwn = superblock.hasChecksums ? try namesItself(bytes, range) : true
        let neighbour = rightmost[level]
        guard fields.magic == (superblock.hasChecksums ? kind.magic.checked : kind.magic.bare), fields.level == level,
            isOwn, left == neighbour?.block ?? none, neighbour?.right ?? block == block
        else { throw damaged }
        rightmost[level] = (block, right)
        return fields.recordCount
    }

    /// The additional fields of version 5: bb_blkno (in units of 512 bytes), bb_lsn, bb_uuid, bb_owner.
    private func namesItself(_ bytes: [UInt8], _ range: ByteRange) throws(FilesystemError) -> Bool {
        let start = isLong ? 24 : 16
        let fields = try FilesystemError.parsing { () throws(ParsingError) in
            (
                place: try bytes.bigEndian(UInt64.self, at: start),
                lsn: try bytes.bigEndian(UInt64.self, at: start + 8),
                uuid: try bytes.bytes(at: start + 16, count: 16)
            )
        }
        let ownerNumber = try number(bytes, at: start + 32)
        let isOwner =
            switch owner {
            case .group(let group): ownerNumber == UInt64(group)
            case .inode(let inode): ownerNumber == inode
            }
        return fields.place == range.lowerBound / 512 && XFSMapper.isPlausible(lsn: fields.lsn, head: head)
            && fields.uuid == superblock.metadataUUID && isOwner
    }

    /// A block or an owner: 32 bits in the short form, 64 in the long one.
    private func number(_ bytes: [UInt8], at place: Int) throws(FilesystemError) -> UInt64 {
        let isLong = isLong
        return try FilesystemError.parsing { () throws(ParsingError) in
            isLong
                ? try bytes.bigEndian(UInt64.self, at: place) : UInt64(try bytes.bigEndian(UInt32.self, at: place))
        }
    }

    private func range(of block: UInt64) throws(FilesystemError) -> ByteRange {
        let range =
            switch owner {
            case .group(let group): superblock.range(ofBlocks: block, count: 1, inGroup: UInt64(group))
            case .inode: superblock.range(ofBlocks: block, count: 1)
            }
        guard let range else { throw damaged }
        return range
    }
}
