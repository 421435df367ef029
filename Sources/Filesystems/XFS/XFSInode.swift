// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// An inode: the places of its data and its extended attributes (kernel,
/// `fs/xfs/libxfs/xfs_format.h`, struct xfs_dinode).
struct XFSInode {
    /// Contiguous blocks of the filesystem (struct xfs_bmbt_rec).
    struct Extent {
        /// XFS_BMBT_REC: 16 bytes.
        static let byteCount = 16

        let block: UInt64
        let blockCount: UInt64

        /// From the top: one bit for unwritten, 54 for the offset in the file, 52 for the block, 21 for the count.
        init(_ bytes: [UInt8], at place: Int) throws(ParsingError) {
            let high = try bytes.bigEndian(UInt64.self, at: place)
            let low = try bytes.bigEndian(UInt64.self, at: place + 8)
            block = (high & 0x1FF) << 43 | low >> 21
            blockCount = low & 0x1F_FFFF
        }
    }

    enum Fork {
        /// In the inode, or empty.
        case inside
        case extents([Extent])
        /// A tree of extents (XFS_DINODE_FMT_BTREE): the pointers of its root in the inode, and the level
        /// of the blocks they lead to.
        case tree(level: Int, pointers: [UInt64])
    }

    let data: Fork
    let attributes: Fork

    /// `nil` for an unused inode.
    /// - Parameter bytes: exactly the inode.
    init?(_ bytes: [UInt8], number: UInt64, of superblock: XFSSuperblock) throws(FilesystemError) {
        guard bytes.count >= 256, bytes[0] == 0x49, bytes[1] == 0x4E else {  // di_magic, XFS_DINODE_MAGIC
            throw .damaged("inode \(number) is not valid")
        }
        guard bytes[2] != 0 || bytes[3] != 0 else { return nil }  // di_mode
        if superblock.hasChecksums, !XFSChecksum.isRight(bytes, fieldAt: XFSChecksum.inodeOffset) {
            throw .damaged("the checksum of inode \(number) is wrong")
        }
        do throws(ParsingError) {
            let version = bytes[4]  // di_version
            // di_ino, di_uuid
            let isOwn =
                if superblock.hasChecksums {
                    try (bytes.bigEndian(at: 152), bytes.bytes(at: 160, count: 16)) == (number, superblock.metadataUUID)
                } else { true }
            guard isOwn, superblock.hasChecksums ? version == 3 : version == 1 || version == 2 else {
                throw .invalid(what: "inode \(number)")
            }
            let start = version == 3 ? 176 : 100
            // XFS_DIFLAG2_NREXT64 of di_flags2: wider counts, at other offsets.
            let hasWideCounts = version == 3 ? try bytes.bigEndian(UInt64.self, at: 120) & 0x10 != 0 : false
            let dataCount =
                hasWideCounts
                ? try bytes.bigEndian(UInt64.self, at: 24)  // di_big_nextents
                : UInt64(try bytes.bigEndian(UInt32.self, at: 76))  // di_nextents
            let attributeCount =
                hasWideCounts
                ? UInt64(try bytes.bigEndian(UInt32.self, at: 76))  // di_big_anextents
                : UInt64(try bytes.bigEndian(UInt16.self, at: 80))  // di_anextents
            let split = bytes[82] == 0 ? bytes.count : start + Int(bytes[82]) * 8  // di_forkoff
            guard split <= bytes.count else { throw .invalid(what: "inode \(number)") }
            // di_format, di_aformat
            data = try Self.fork(bytes, in: start..<split, format: bytes[5], dataCount)
            attributes =
                split < bytes.count
                ? try Self.fork(bytes, in: split..<bytes.count, format: bytes[83], attributeCount) : .inside
        } catch {
            throw .damaged("inode \(number) is not valid")
        }
    }

    private static func fork(
        _ bytes: [UInt8], in room: Range<Int>, format: UInt8, _ extentCount: UInt64
    ) throws(ParsingError) -> Fork {
        switch format {
        case 0, 1: return .inside  // XFS_DINODE_FMT_DEV, XFS_DINODE_FMT_LOCAL
        case 2:  // XFS_DINODE_FMT_EXTENTS
            guard extentCount <= UInt64(room.count / Extent.byteCount) else { throw .invalid(what: "its extents") }
            var extents: [Extent] = []
            for index in 0..<Int(extentCount) {
                extents.append(try Extent(bytes, at: room.lowerBound + index * Extent.byteCount))
            }
            return .extents(extents)
        case 3:
            // struct xfs_bmdr_block: bb_level, bb_numrecs, room for keys of 8 bytes, and for as many pointers.
            let level = Int(try bytes.bigEndian(UInt16.self, at: room.lowerBound))
            let count = Int(try bytes.bigEndian(UInt16.self, at: room.lowerBound + 2))
            let limit = (room.count - 4) / 16
            guard level >= 1, level <= XFSTree.levelLimit, count >= 1, count <= limit else {
                throw .invalid(what: "its extents")
            }
            var pointers: [UInt64] = []
            for index in 0..<count {
                pointers.append(try bytes.bigEndian(at: room.lowerBound + 4 + limit * 8 + index * 8))
            }
            return .tree(level: level - 1, pointers: pointers)
        default: throw .invalid(what: "its format")
        }
    }
}
