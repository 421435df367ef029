// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

extension ExtSuperblock {
    /// Larger filesystems (more than 128 TiB of 4 KiB blocks) are not mapped: memory stays bounded.
    static let groupLimit: UInt64 = 1 << 20

    /// Which of the three kinds it is, by the rules of libblkid (`superblocks/ext.c`); `nil` for an external journal.
    var kind: FilesystemInfo.Kind? {
        if has(incompatible: ExtFeature.journalDevice) { return nil }
        // A feature unknown to ext3 makes it ext4.
        let isExt4 =
            readOnlyCompatible & ~ExtFeature.ext3ReadOnlyCompatible != 0
            || incompatible & ~ExtFeature.ext3Incompatible != 0
        if isExt4 { return .ext4 }
        return has(compatible: ExtFeature.journal) ? .ext3 : .ext2
    }

    /// Whether it was unmounted without errors since ("Super Block", s_state).
    var isClean: Bool {
        state & 1 != 0 && state & ~1 == 0 && !has(incompatible: ExtFeature.recover)
            && !has(readOnlyCompatible: ExtFeature.orphanPresent)
    }

    /// Why the bitmaps cannot be trusted, as a sentence part; `nil` without a reason. Afterwards every count is inside
    /// the bounds that the rest of the reader relies on.
    func problem(volumeByteCount: UInt64) -> String? {
        if let problem = featureProblem ?? stateProblem { return problem }
        do { return try geometryProblem(volumeByteCount) } catch { return error.description }
    }

    private var featureProblem: String? {
        if has(incompatible: ExtFeature.journalDevice) { return "it is the journal of a filesystem on another volume" }
        let unknown = incompatible & ~ExtFeature.knownIncompatible
        if unknown != 0 { return "it has a feature that is not known here: \(ExtFeature.names(incompatible: unknown))" }
        let unknownReadOnly = readOnlyCompatible & ~ExtFeature.knownReadOnlyCompatible
        if unknownReadOnly != 0 {
            return "it has a feature that is not known here: \(ExtFeature.names(readOnlyCompatible: unknownReadOnly))"
        }
        if has(compatible: ExtFeature.excludeBitmap) {
            return "it has a feature that is not known here: exclude_bitmap"
        }
        if revision > 1 { return "its revision \(revision) is not known here" }
        if !checksumIsRight { return "the checksum of its superblock is wrong" }
        if has(readOnlyCompatible: ExtFeature.metadataChecksum) {
            if checksumType != 1 { return "its checksum type \(checksumType) is not known here" }
            // The kernel refuses this pair (ext4_super.c, "metadata_csum and uninit_bg are redundant flags").
            if has(readOnlyCompatible: ExtFeature.descriptorChecksum) { return "its checksum features contradict" }
        }
        return nil
    }

    private var stateProblem: String? {
        if has(incompatible: ExtFeature.recover) { return "its journal holds changes not yet in place" }
        if has(readOnlyCompatible: ExtFeature.orphanPresent) { return "deleted files in it still wait to be freed" }
        if state & 2 != 0 { return "it is marked as having errors" }
        if state & 1 == 0 { return "it was not cleanly unmounted" }
        if state & ~1 != 0 { return "its state (\(state)) is not clean" }
        return nil
    }

    /// The bounds of the kernel (`fs/ext4/super.c`, ext4_fill_super and its helpers).
    private func geometryProblem(_ volumeByteCount: UInt64) throws(ParsingError) -> String? {
        let isBigalloc = has(readOnlyCompatible: ExtFeature.bigalloc)
        guard logBlockSize <= 6 else { return "its block size is not valid" }
        guard logClusterSize <= 20, isBigalloc ? logClusterSize >= logBlockSize : logClusterSize == logBlockSize else {
            return "its cluster size is not valid"
        }
        let bitsPerBlock = UInt32(blockSize * 8)
        guard clustersPerGroup > 0, clustersPerGroup % 8 == 0, clustersPerGroup <= bitsPerBlock,
            UInt64(blocksPerGroup) == UInt64(clustersPerGroup) * clusterRatio
        else { return "the size of its block groups is not valid" }
        let firstIsValid =
            blockSize == 1024 ? firstDataBlock <= 1 && (firstDataBlock == 1 || isBigalloc) : firstDataBlock == 0
        guard firstIsValid, blockCount > UInt64(firstDataBlock) else { return "its first block is not valid" }
        guard inodeSize >= 128, inodeSize & (inodeSize - 1) == 0, Int(inodeSize) <= blockSize, inodesPerGroup > 0,
            inodesPerGroup <= bitsPerBlock
        else { return "its inode counts are not valid" }
        if has(incompatible: ExtFeature.bit64) {
            let size = descriptorSizeField
            guard size >= 64, size <= 1024, size & (size - 1) == 0 else {
                return "the size of its group descriptors is not valid"
            }
        }
        guard try blockCount.multiplied(by: UInt64(blockSize), "its size") <= volumeByteCount else {
            return "it is larger than its partition"
        }
        guard groupCount <= Self.groupLimit else { return "it has more block groups than are mapped here" }
        guard groupCount * UInt64(inodesPerGroup) == UInt64(inodeCount) else {
            return "its inode count does not fit its groups"
        }
        let descriptorBlocks = try groupCount.dividedRoundingUp(by: UInt64(descriptorsPerBlock), "its descriptors")
        guard UInt64(firstMetaGroup) <= descriptorBlocks || !has(incompatible: ExtFeature.metaGroups),
            Int(reservedGDTBlocks) <= blockSize / 4
        else { return "the place of its group descriptors is not valid" }
        return nil
    }

    /// The length of the filesystem in bytes; `nil` if it does not fit 64 bits.
    var filesystemByteCount: UInt64? {
        guard logBlockSize <= 6 else { return nil }
        let (value, overflow) = blockCount.multipliedReportingOverflow(by: UInt64(blockSize))
        return overflow ? nil : value
    }
}

/// Feature bits ("Super Block", s_feature_compat, s_feature_incompat, s_feature_ro_compat).
enum ExtFeature {
    static let journal: UInt32 = 0x4
    static let excludeBitmap: UInt32 = 0x100
    static let sparseSuper2: UInt32 = 0x200
    static let stableInodes: UInt32 = 0x800

    static let recover: UInt32 = 0x4
    static let journalDevice: UInt32 = 0x8
    static let metaGroups: UInt32 = 0x10
    static let bit64: UInt32 = 0x80
    static let multiMountProtection: UInt32 = 0x100
    static let flexGroups: UInt32 = 0x200
    static let attributeInodes: UInt32 = 0x400
    static let checksumSeed: UInt32 = 0x2000

    static let sparseSuper: UInt32 = 0x1
    static let descriptorChecksum: UInt32 = 0x10
    static let bigalloc: UInt32 = 0x200
    static let metadataChecksum: UInt32 = 0x400
    static let orphanPresent: UInt32 = 0x10000

    /// filetype, meta_bg, and the two that a journal brings (libblkid, EXT3_FEATURE_INCOMPAT_SUPP).
    static let ext3Incompatible: UInt32 = 0x2 | 0x4 | 0x10
    /// sparse_super, large_file, btree_dir (libblkid, EXT3_FEATURE_RO_COMPAT_SUPP).
    static let ext3ReadOnlyCompatible: UInt32 = 0x1 | 0x2 | 0x4
    /// All features with which the block bitmaps stay complete.
    static let knownIncompatible: UInt32 = incompatibleNames.reduce(0) { $0 | 1 << $1.bit }
    static let knownReadOnlyCompatible: UInt32 = readOnlyCompatibleNames.reduce(0) { $0 | 1 << $1.bit }

    private static let compatibleNames: [(bit: UInt32, name: String)] = [
        (0, "dir_prealloc"), (2, "has_journal"), (3, "ext_attr"), (4, "resize_inode"), (5, "dir_index"),
        (9, "sparse_super2"), (10, "fast_commit"), (11, "stable_inodes"), (12, "orphan_file"),
    ]
    private static let incompatibleNames: [(bit: UInt32, name: String)] = [
        (1, "filetype"), (2, "needs_recovery"), (3, "journal_dev"), (4, "meta_bg"), (6, "extent"), (7, "64bit"),
        (8, "mmp"), (9, "flex_bg"), (10, "ea_inode"), (13, "metadata_csum_seed"), (14, "large_dir"),
        (15, "inline_data"), (16, "encrypt"), (17, "casefold"),
    ]
    private static let readOnlyCompatibleNames: [(bit: UInt32, name: String)] = [
        (0, "sparse_super"), (1, "large_file"), (2, "btree_dir"), (3, "huge_file"), (4, "uninit_bg"),
        (5, "dir_nlink"), (6, "extra_isize"), (8, "quota"), (9, "bigalloc"), (10, "metadata_csum"),
        (12, "read-only"), (13, "project"), (14, "shared_blocks"), (15, "verity"), (16, "orphan_present"),
    ]

    /// The names of a superblock's features, as printed by `dumpe2fs`.
    static func names(of superblock: ExtSuperblock) -> [String] {
        FilesystemInfo.featureNames(compatibleNames, superblock.compatible, "compat")
            + FilesystemInfo.featureNames(incompatibleNames, superblock.incompatible, "incompat")
            + FilesystemInfo.featureNames(readOnlyCompatibleNames, superblock.readOnlyCompatible, "ro_compat")
    }
    static func names(incompatible bits: UInt32) -> String {
        FilesystemInfo.featureNames(incompatibleNames, bits, "incompat").joined(separator: ", ")
    }
    static func names(readOnlyCompatible bits: UInt32) -> String {
        FilesystemInfo.featureNames(readOnlyCompatibleNames, bits, "ro_compat").joined(separator: ", ")
    }
}
