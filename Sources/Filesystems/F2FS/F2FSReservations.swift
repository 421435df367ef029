// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Counts the blocks of an F2FS that files have reserved and never written (`fallocate`): their nodes contain NEW_ADDR
/// instead of an address. The checkpoint counts them as valid, the SIT does not (`f2fs_fs.h`, struct f2fs_node;
/// kernel, `fs/f2fs/data.c`, f2fs_reserve_new_blocks; `fs/f2fs/node.h`, the numbering of nodes).
enum F2FSReservations {
    private static let newAddress: UInt32 = 0xFFFF_FFFF
    private static let footer = 4072
    /// DEF_ADDRS_PER_BLOCK, and NIDS_PER_BLOCK.
    private static let nodeAddressCount: UInt32 = 1018
    /// Bits of i_inline, F2FS_INLINE_XATTR and so on.
    private static let (inlineXattr, inlineData, inlineDentry, extraAttributes) = (
        0x01 as UInt8, 0x02 as UInt8, 0x04 as UInt8, 0x20 as UInt8
    )
    static let flexibleInlineXattr: UInt32 = 0x40

    /// - Parameter nodes: the valid blocks of the segments of nodes.
    static func count(
        in nodes: [Range<UInt64>], of volume: any BlockReader, _ superblock: F2FSSuperblock
    ) throws(FilesystemError) -> UInt64 {
        let size = Int(F2FSSuperblock.blockSize)
        let isFlexible = superblock.feature & flexibleInlineXattr != 0
        var count: UInt64 = 0
        for run in nodes {
            let bytes = try FilesystemError.reading { () throws(BlockIOError) in
                try volume.readBytes(at: run.lowerBound * F2FSSuperblock.blockSize, count: run.count * size)
            }
            for start in stride(from: 0, to: bytes.count, by: size) {
                let node = Array(bytes[start..<start + size])
                count += try FilesystemError.parsing { () throws(ParsingError) in
                    let addresses = try addresses(of: node, isFlexible: isFlexible)
                    var found: UInt64 = 0
                    for place in stride(from: addresses.lowerBound, to: addresses.upperBound, by: 4)
                    where try node.littleEndian(UInt32.self, at: place) == newAddress {
                        found += 1
                    }
                    return found
                }
            }
        }
        return count
    }

    /// The bytes of a node that contain addresses of data; empty for other nodes.
    static func addresses(of node: [UInt8], isFlexible: Bool) throws(ParsingError) -> Range<Int> {
        let isInode = try node.littleEndian(UInt32.self, at: footer) == node.littleEndian(UInt32.self, at: footer + 4)
        guard isInode else {
            // ofs_of_node, above the bits for cold, fsync and dentry.
            let place = try node.littleEndian(UInt32.self, at: footer + 8) >> 3
            return isDirect(place) ? 0..<Int(nodeAddressCount) * 4 : 0..<0
        }
        let flags = node[3]  // i_inline
        guard flags & (inlineData | inlineDentry) == 0 else { return 0..<0 }
        // i_addr has 923 entries; extra attributes take the first of them, inline attributes the last.
        let (start, end) = (360, 360 + 923 * 4)
        let hasExtra = flags & extraAttributes != 0
        let extra = hasExtra ? Int(try node.littleEndian(UInt16.self, at: start)) : 0  // i_extra_isize
        let attributes =
            isFlexible && hasExtra
            ? Int(try node.littleEndian(UInt16.self, at: start + 2))  // i_inline_xattr_size
            : flags & inlineXattr != 0 ? 50 : 0  // DEFAULT_INLINE_XATTR_ADDRS
        guard extra % 4 == 0, extra + attributes * 4 <= end - start else {
            throw .invalid(what: "the attributes of an inode")
        }
        return start + extra..<end - attributes * 4
    }

    /// Whether the node at this offset of its file contains addresses of data (IS_DNODE), and not numbers of nodes or
    /// attributes (XATTR_NODE_OFFSET).
    private static func isDirect(_ place: UInt32) -> Bool {
        let perBlock = nodeAddressCount
        if place == UInt32.max >> 3 { return false }
        if [3, 4 + perBlock, 5 + 2 * perBlock].contains(place) { return false }
        let behind = 6 + 2 * perBlock
        return place < behind || (place - behind) % (perBlock + 1) != 0
    }
}
