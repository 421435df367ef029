// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The superblock of XFS, versions 4 and 5 (kernel, `fs/xfs/libxfs/xfs_format.h`, struct xfs_dsb; "XFS Algorithms &
/// Data Structures", "Superblocks"). Counts are unchecked until `problem(volumeByteCount:)` has returned `nil`.
struct XFSSuperblock {
    /// Enough for every field; the checksum covers the whole sector that contains them.
    static let byteCount = 512
    /// The largest sector (XFS_MAX_SECTORSIZE).
    static let maximumSectorSize = 32768

    let blockSize: UInt32
    let blockCount: UInt64
    let realtimeBlockCount: UInt64
    let realtimeExtentCount: UInt64
    let uuid: [UInt8]
    let logStart: UInt64
    let groupBlockCount: UInt32
    let groupCount: UInt32
    let logBlockCount: UInt32
    let versionField: UInt16
    let sectorSize: UInt16
    let inodeSize: UInt16
    let inodesPerBlock: UInt16
    let label: String
    let logOfBlockSize: UInt8
    let logOfSectorSize: UInt8
    let logOfInodesPerBlock: UInt8
    let logOfGroupBlockCount: UInt8
    /// In bytes; 0 and 1 mean none.
    let logStripeUnit: UInt32
    let isInProgress: Bool
    let features2: UInt32
    let readOnlyCompatible: UInt32
    let incompatible: UInt32
    let logIncompatible: UInt32
    let lsn: UInt64
    /// The UUID in metadata: it differs from `uuid` where that was changed later.
    let metadataUUID: [UInt8]
    private let storedChecksum: UInt32

    /// `nil` if the magic number is missing.
    init?(_ bytes: [UInt8]) throws(ParsingError) {
        guard try bytes.bigEndian(UInt32.self, at: 0) == 0x5846_5342 else { return nil }  // sb_magicnum, XFSB
        blockSize = try bytes.bigEndian(at: 4)  // sb_blocksize
        blockCount = try bytes.bigEndian(at: 8)  // sb_dblocks
        realtimeBlockCount = try bytes.bigEndian(at: 16)  // sb_rblocks
        realtimeExtentCount = try bytes.bigEndian(at: 24)  // sb_rextents
        uuid = try bytes.bytes(at: 32, count: 16)  // sb_uuid
        logStart = try bytes.bigEndian(at: 48)  // sb_logstart
        groupBlockCount = try bytes.bigEndian(at: 84)  // sb_agblocks
        groupCount = try bytes.bigEndian(at: 88)  // sb_agcount
        logBlockCount = try bytes.bigEndian(at: 96)  // sb_logblocks
        versionField = try bytes.bigEndian(at: 100)  // sb_versionnum
        sectorSize = try bytes.bigEndian(at: 102)  // sb_sectsize
        inodeSize = try bytes.bigEndian(at: 104)  // sb_inodesize
        inodesPerBlock = try bytes.bigEndian(at: 106)  // sb_inopblock
        label = try bytes.text(at: 108, count: 12)  // sb_fname
        logOfBlockSize = try bytes.bigEndian(at: 120)  // sb_blocklog
        logOfSectorSize = try bytes.bigEndian(at: 121)  // sb_sectlog
        logOfInodesPerBlock = try bytes.bigEndian(at: 123)  // sb_inopblog
        logOfGroupBlockCount = try bytes.bigEndian(at: 124)  // sb_agblklog
        logStripeUnit = try bytes.bigEndian(at: 196)  // sb_logsunit
        isInProgress = try bytes.bigEndian(UInt8.self, at: 126) != 0  // sb_inprogress
        // sb_features2, sb_bad_features2: old kernels wrote the flags to the second field.
        features2 = try bytes.bigEndian(UInt32.self, at: 200) | bytes.bigEndian(UInt32.self, at: 204)
        let isVersion5 = versionField & 0xF == 5
        // sb_features_ro_compat, sb_features_incompat, sb_features_log_incompat
        readOnlyCompatible = isVersion5 ? try bytes.bigEndian(at: 212) : 0
        incompatible = isVersion5 ? try bytes.bigEndian(at: 216) : 0
        logIncompatible = isVersion5 ? try bytes.bigEndian(at: 220) : 0
        storedChecksum = try bytes.littleEndian(at: XFSChecksum.superblockOffset)  // sb_crc
        lsn = try bytes.bigEndian(at: 240)  // sb_lsn
        let hasOwn = isVersion5 && incompatible & XFSFeature.metadataUUID != 0
        metadataUUID = hasOwn ? try bytes.bytes(at: 248, count: 16) : uuid  // sb_meta_uuid
    }

    /// 4 or 5.
    var version: Int { Int(versionField & 0xF) }
    /// Whether metadata has checksums and contains its own address.
    var hasChecksums: Bool { version == 5 }
    /// Whether log records may have more than one header block (XFS_SB_VERSION_LOGV2BIT).
    var hasLogVersion2: Bool { hasChecksums || versionField & XFSFeature.logVersion2 != 0 }
    var isLogExternal: Bool { logStart == 0 }

    /// The length of the filesystem in bytes; `nil` if it does not fit 64 bits.
    var filesystemByteCount: UInt64? {
        let (value, overflow) = blockCount.multipliedReportingOverflow(by: UInt64(blockSize))
        return overflow ? nil : value
    }

    /// Whether the checksum is correct; true without a checksum.
    /// - Parameter sector: all of the first sector.
    func checksumIsRight(_ sector: [UInt8]) -> Bool {
        !hasChecksums || XFSChecksum.compute(sector, fieldAt: XFSChecksum.superblockOffset) == storedChecksum
    }

    // MARK: Places, valid once `problem(volumeByteCount:)` found none

    /// The blocks of an allocation group: the last one may be shorter.
    func blockCount(ofGroup group: UInt64) -> UInt64 {
        min(UInt64(groupBlockCount), blockCount - group * UInt64(groupBlockCount))
    }

    /// The start of an allocation group in bytes.
    func offset(ofGroup group: UInt64) -> UInt64 { group * UInt64(groupBlockCount) * UInt64(blockSize) }

    /// The group of a file system block number and the block inside it (XFS_FSB_TO_AGNO, XFS_FSB_TO_AGBNO).
    func place(ofBlock block: UInt64) -> (group: UInt64, block: UInt64) {
        let shift = UInt64(logOfGroupBlockCount)
        return (block >> shift, block & ((1 << shift) - 1))
    }

    /// The bytes of blocks of one group; `nil` if there are none, or not all are inside.
    func range(ofBlocks block: UInt64, count: UInt64, inGroup group: UInt64) -> ByteRange? {
        guard group < UInt64(groupCount) else { return nil }
        let limit = blockCount(ofGroup: group)
        guard count > 0, block < limit, count <= limit - block else { return nil }
        let start = offset(ofGroup: group) + block * UInt64(blockSize)
        return start..<start + count * UInt64(blockSize)
    }

    /// The bytes of file system blocks in one group; `nil` if they span several.
    func range(ofBlocks block: UInt64, count: UInt64) -> ByteRange? {
        let place = place(ofBlock: block)
        return range(ofBlocks: place.block, count: count, inGroup: place.group)
    }

    /// The log, in bytes.
    var logRange: ByteRange {
        let (group, block) = place(ofBlock: logStart)
        let start = offset(ofGroup: group) + block * UInt64(blockSize)
        return start..<start + UInt64(logBlockCount) * UInt64(blockSize)
    }
}

/// The checksums of XFS version 5: CRC-32C over the structure with its own field as zero, stored little-endian
/// (kernel, `fs/xfs/libxfs/xfs_cksum.h`).
enum XFSChecksum {
    /// The offset of the field (XFS_SB_CRC_OFF, XFS_AGF_CRC_OFF, XFS_AGFL_CRC_OFF, XFS_AGI_CRC_OFF,
    /// XFS_BTREE_SBLOCK_CRC_OFF, XFS_BTREE_LBLOCK_CRC_OFF, XFS_DINODE_CRC_OFF).
    static let superblockOffset = 224
    static let groupHeaderOffset = 216
    static let freeListOffset = 32
    static let inodeHeaderOffset = 312
    static let treeBlockOffset = 52
    static let longTreeBlockOffset = 64
    static let inodeOffset = 100

    /// The checksum for the four bytes at `offset`; `nil` if they are not inside.
    static func compute(_ bytes: [UInt8], fieldAt offset: Int) -> UInt32? {
        guard offset >= 0, offset <= bytes.count - 4 else { return nil }
        var blank = bytes
        for index in offset..<offset + 4 { blank[index] = 0 }
        return CRC32.castagnoli.checksum(blank)
    }

    /// Whether the field at `offset` is correct.
    static func isRight(_ bytes: [UInt8], fieldAt offset: Int) -> Bool {
        guard let stored = try? bytes.littleEndian(UInt32.self, at: offset) else { return false }
        return compute(bytes, fieldAt: offset) == stored
    }
}
