// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The checked header of an allocation group's inodes (kernel, `fs/xfs/libxfs/xfs_format.h`, struct xfs_agi).
struct XFSInodeHeader {
    /// All chunks of inodes; and those with free ones, if there is such a tree.
    let inodes: XFSAllocationGroup.Root
    let freeInodes: XFSAllocationGroup.Root?
    /// The inodes in the group, used or not.
    let inodeCount: UInt32

    /// - Parameter bytes: the third sector of the group.
    init(_ bytes: [UInt8], number: UInt32, of superblock: XFSSuperblock) throws(FilesystemError) {
        let what = "the header of the inodes of its allocation group \(number)"
        if superblock.hasChecksums, !XFSChecksum.isRight(bytes, fieldAt: XFSChecksum.inodeHeaderOffset) {
            throw .damaged("the checksum of \(what) is wrong")
        }
        let fields = try FilesystemError.parsing { () throws(ParsingError) in
            (
                // agi_magicnum, agi_versionnum, agi_seqno, agi_length, agi_uuid
                magic: try bytes.bigEndian(UInt32.self, at: 0), version: try bytes.bigEndian(UInt32.self, at: 4),
                number: try bytes.bigEndian(UInt32.self, at: 8), blockCount: try bytes.bigEndian(UInt32.self, at: 12),
                uuid: try bytes.bytes(at: 296, count: 16),
                // agi_count, agi_root, agi_level, agi_free_root, agi_free_level
                inodeCount: try bytes.bigEndian(UInt32.self, at: 16),
                inodes: (try bytes.bigEndian(UInt32.self, at: 20), try bytes.bigEndian(UInt32.self, at: 24)),
                freeInodes: (try bytes.bigEndian(UInt32.self, at: 328), try bytes.bigEndian(UInt32.self, at: 332))
            )
        }
        guard fields.magic == 0x5841_4749, fields.version == 1, fields.number == number,
            UInt64(fields.blockCount) == superblock.blockCount(ofGroup: UInt64(number)),
            !superblock.hasChecksums || fields.uuid == superblock.metadataUUID
        else { throw .damaged("\(what) is not valid") }
        inodes = fields.inodes
        freeInodes = superblock.has(readOnlyCompatible: XFSFeature.freeInodes) ? fields.freeInodes : nil
        inodeCount = fields.inodeCount
    }
}
