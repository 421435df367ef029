// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// One of the two B+trees of an allocation group's free space, by place and by size, with the same records (kernel,
/// `fs/xfs/libxfs/xfs_format.h`: struct xfs_alloc_rec; "XFS Algorithms & Data Structures", "AG Free Space B+trees").
struct XFSFreeSpaceTree {
    enum Order {
        case place, size
    }

    private let tree: XFSTree
    private let group: XFSAllocationGroup
    private let order: Order

    /// The places of the tree's blocks.
    private(set) var places: [ByteRange] = []
    private(set) var freeBlockCount: UInt64 = 0
    /// Equal for the same records in any order.
    private(set) var fingerprint: UInt64 = 0
    private var last: (start: UInt32, count: UInt32)?

    init(
        _ volume: any BlockReader, _ superblock: XFSSuperblock, _ group: XFSAllocationGroup, _ order: Order,
        head: UInt64
    ) {
        self.group = group
        self.order = order
        tree = XFSTree(
            volume, superblock, order == .place ? .freeSpaceByPlace : .freeSpaceBySize, .group(group.number),
            name: "a free-space tree of its allocation group \(group.number)", head: head)
    }

    /// Walks the whole tree, and passes each range of free blocks to `body`, in the order of the tree.
    mutating func walk(_ body: (Range<UInt32>) -> Void) throws(FilesystemError) {
        let root = order == .place ? group.byPlace : group.bySize
        var tree = tree
        try tree.walk(root: UInt64(root.block), levelCount: root.levelCount) { visit throws(FilesystemError) in
            switch visit {
            case .block(let place): places.append(place)
            case .record(let bytes, let place): try take(bytes, at: place, body)
            }
        }
        guard freeBlockCount == UInt64(group.freeBlockCount) else { throw contradicted }
    }

    private var contradicted: FilesystemError {
        .damaged("a free-space tree contradicts the free blocks that are counted for its group \(group.number)")
    }

    /// A record (struct xfs_alloc_rec: ar_startblock, ar_blockcount).
    private mutating func take(
        _ bytes: [UInt8], at place: Int, _ body: (Range<UInt32>) -> Void
    ) throws(FilesystemError) {
        let (start, count) = try FilesystemError.parsing { () throws(ParsingError) in
            (try bytes.bigEndian(UInt32.self, at: place), try bytes.bigEndian(UInt32.self, at: place + 4))
        }
        guard count > 0, start < group.blockCount, count <= group.blockCount - start else { throw tree.damaged }
        if let last {
            // By place, two adjacent ranges would be one.
            let follows =
                order == .place
                ? start > last.start + last.count : (count, start) > (last.count, last.start)
            guard follows else { throw tree.damaged }
        }
        last = (start, count)
        freeBlockCount += UInt64(count)
        guard freeBlockCount <= UInt64(group.freeBlockCount) else { throw contradicted }
        fingerprint &+= Self.mixed(UInt64(start) << 32 | UInt64(count))
        body(start..<start + count)
    }

    /// Mixes a number over all bits (the finisher of SplitMix64), so that sums differ where records differ.
    private static func mixed(_ value: UInt64) -> UInt64 {
        var mixed = value &+ 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}
