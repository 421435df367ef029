// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The superblock of ext2, ext3 and ext4 (kernel documentation, "ext4 Data Structures and Algorithms", §3.1 "Super
/// Block"). Counts are unchecked until `problem(volumeByteCount:)` has returned `nil`.
struct ExtSuperblock {
    static let offset: UInt64 = 1024
    static let byteCount = 1024

    let inodeCount: UInt32
    let blockCount: UInt64
    let firstDataBlock: UInt32
    let logBlockSize: UInt32
    let logClusterSize: UInt32
    let blocksPerGroup: UInt32
    let clustersPerGroup: UInt32
    let inodesPerGroup: UInt32
    let state: UInt16
    let revision: UInt32
    let inodeSize: UInt16
    let compatible: UInt32
    let incompatible: UInt32
    let readOnlyCompatible: UInt32
    let uuid: [UInt8]
    let label: String
    /// Its last mount point.
    let lastMountPoint: String
    let reservedGDTBlocks: UInt16
    let journalInode: UInt32
    let descriptorSizeField: UInt16
    let firstMetaGroup: UInt32
    let flags: UInt32
    let mmpBlock: UInt64
    /// As a power of two; valid only with flex_bg.
    let logGroupsPerFlex: UInt8
    let checksumType: UInt8
    let backupGroups: [UInt32]
    let checksumSeedField: UInt32
    /// Whether the superblock's own checksum is correct; true without a checksum.
    let checksumIsRight: Bool

    /// `nil` if the magic number is missing.
    init?(_ bytes: [UInt8]) throws(ParsingError) {
        guard try bytes.littleEndian(UInt16.self, at: 0x38) == 0xEF53 else { return nil }  // s_magic
        incompatible = try bytes.littleEndian(at: 0x60)  // s_feature_incompat
        readOnlyCompatible = try bytes.littleEndian(at: 0x64)  // s_feature_ro_compat
        compatible = try bytes.littleEndian(at: 0x5C)  // s_feature_compat
        inodeCount = try bytes.littleEndian(at: 0x0)  // s_inodes_count
        // s_blocks_count_lo, s_blocks_count_hi: the high half counts only with the 64bit feature.
        let high = incompatible & ExtFeature.bit64 != 0 ? try bytes.littleEndian(UInt32.self, at: 0x150) : 0
        blockCount = UInt64(high) << 32 | UInt64(try bytes.littleEndian(UInt32.self, at: 0x4))
        firstDataBlock = try bytes.littleEndian(at: 0x14)  // s_first_data_block
        logBlockSize = try bytes.littleEndian(at: 0x18)  // s_log_block_size
        logClusterSize = try bytes.littleEndian(at: 0x1C)  // s_log_cluster_size
        blocksPerGroup = try bytes.littleEndian(at: 0x20)  // s_blocks_per_group
        clustersPerGroup = try bytes.littleEndian(at: 0x24)  // s_clusters_per_group
        inodesPerGroup = try bytes.littleEndian(at: 0x28)  // s_inodes_per_group
        state = try bytes.littleEndian(at: 0x3A)  // s_state
        revision = try bytes.littleEndian(at: 0x4C)  // s_rev_level
        // Revision 0 has fixed inodes of 128 bytes.
        inodeSize = revision == 0 ? 128 : try bytes.littleEndian(at: 0x58)  // s_inode_size
        uuid = try bytes.bytes(at: 0x68, count: 16)  // s_uuid
        label = try bytes.text(at: 0x78, count: 16)  // s_volume_name
        lastMountPoint = try bytes.text(at: 0x88, count: 64)  // s_last_mounted
        reservedGDTBlocks = try bytes.littleEndian(at: 0xCE)  // s_reserved_gdt_blocks
        journalInode = try bytes.littleEndian(at: 0xE0)  // s_journal_inum
        descriptorSizeField = try bytes.littleEndian(at: 0xFE)  // s_desc_size
        firstMetaGroup = try bytes.littleEndian(at: 0x104)  // s_first_meta_bg
        flags = try bytes.littleEndian(at: 0x160)  // s_flags
        mmpBlock = try bytes.littleEndian(at: 0x168)  // s_mmp_block
        logGroupsPerFlex = try bytes.littleEndian(at: 0x174)  // s_log_groups_per_flex
        checksumType = try bytes.littleEndian(at: 0x175)  // s_checksum_type
        backupGroups = [try bytes.littleEndian(at: 0x24C), try bytes.littleEndian(at: 0x250)]  // s_backup_bgs
        checksumSeedField = try bytes.littleEndian(at: 0x270)  // s_checksum_seed
        // s_checksum, over everything before it ("Checksums" §2.7: crc32c, started with all ones, not inverted).
        let stored: UInt32 = try bytes.littleEndian(at: 0x3FC)
        let computed = ExtChecksum.crc32c(.max, try bytes.bytes(at: 0, count: 0x3FC))
        checksumIsRight = readOnlyCompatible & ExtFeature.metadataChecksum == 0 || computed == stored
    }

    func has(incompatible feature: UInt32) -> Bool { incompatible & feature != 0 }
    func has(readOnlyCompatible feature: UInt32) -> Bool { readOnlyCompatible & feature != 0 }
    func has(compatible feature: UInt32) -> Bool { compatible & feature != 0 }

    /// In bytes; valid once `problem(volumeByteCount:)` has returned `nil`.
    var blockSize: Int { 1024 << Int(min(logBlockSize, 6)) }
    /// Blocks per cluster: 1 without bigalloc.
    var clusterRatio: UInt64 { logClusterSize > logBlockSize ? 1 << UInt64(min(logClusterSize - logBlockSize, 30)) : 1 }
    /// Bytes per group descriptor: 32 without the 64bit feature.
    var descriptorSize: Int { has(incompatible: ExtFeature.bit64) ? Int(descriptorSizeField) : 32 }
    var descriptorsPerBlock: Int { blockSize / max(32, descriptorSize) }
    /// The block that contains the superblock: 1 with blocks of 1 KiB, else 0.
    var superblockBlock: UInt64 { blockSize == 1024 ? 1 : 0 }
    var groupCount: UInt64 {
        guard blocksPerGroup > 0, blockCount > UInt64(firstDataBlock) else { return 0 }
        return (blockCount - UInt64(firstDataBlock) - 1) / UInt64(blocksPerGroup) + 1
    }
    /// Groups with adjacent bitmaps and inode tables: 1 without flex_bg.
    var groupsPerFlex: UInt64 {
        has(incompatible: ExtFeature.flexGroups) ? 1 << UInt64(min(logGroupsPerFlex, 31)) : 1
    }
    var inodeTableBlockCount: UInt64 {
        let bytes = UInt64(inodesPerGroup) * UInt64(inodeSize)
        return (bytes + UInt64(blockSize) - 1) / UInt64(blockSize)
    }
    /// Whether group descriptors have a checksum, and with it the flags for "not initialised".
    var hasDescriptorChecksums: Bool {
        has(readOnlyCompatible: ExtFeature.metadataChecksum) || has(readOnlyCompatible: ExtFeature.descriptorChecksum)
    }
    var checksumSeed: UInt32 {
        has(incompatible: ExtFeature.checksumSeed) ? checksumSeedField : ExtChecksum.crc32c(.max, uuid)
    }

    /// Whether a group has a backup of superblock and descriptors ("Block Groups" §2.3, sparse_super; and
    /// sparse_super2, with two groups in s_backup_bgs).
    func hasBackup(_ group: UInt64) -> Bool {
        if group == 0 { return true }
        if has(compatible: ExtFeature.sparseSuper2) { return backupGroups.contains { UInt64($0) == group } }
        if group == 1 || !has(readOnlyCompatible: ExtFeature.sparseSuper) { return true }
        return [3, 5, 7].contains { (base: UInt64) in
            var power = base
            while power < group { power *= base }  // group < 2^20 here: see groupLimit
            return power == group
        }
    }
}
