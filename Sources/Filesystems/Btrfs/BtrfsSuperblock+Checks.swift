// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

extension BtrfsSuperblock {
    /// Why the trees cannot be trusted, as a sentence part; `nil` without a reason. Afterwards sizes are inside the
    /// bounds that the rest of the reader relies on.
    func problem(volumeByteCount: UInt64) -> String? {
        switch checksumIsRight {
        case nil: return "no map is made of \(BtrfsChecksum.name(checksumType)) checksums"
        case false: return "the checksum of its superblock is wrong"
        default: break
        }
        return deviceProblem ?? featureProblem ?? stateProblem ?? geometryProblem(volumeByteCount)
    }

    private var deviceProblem: String? {
        if flags & BtrfsFlag.seeding != 0 { return "it is a seed device, on which other filesystems build" }
        if deviceCount > 1 { return "it is one of \(deviceCount) devices of a multi-device filesystem" }
        if deviceCount == 0 { return "its number of devices is not valid" }
        return nil
    }

    private var featureProblem: String? {
        let foreign = incompatible & ~BtrfsFeature.mapped
        if foreign != 0 {
            return "it has a feature of which no map is made: \(BtrfsFeature.names(incompatible: foreign))"
        }
        // Before it (2009), extent items had another form.
        if !has(incompatible: BtrfsFeature.mixedBackref) { return "it is of a format from before 2009" }
        let unknown = readOnlyCompatible & ~BtrfsFeature.knownReadOnlyCompatible
        if unknown != 0 {
            return "it has a feature that is not known here: \(BtrfsFeature.names(readOnlyCompatible: unknown))"
        }
        if compatible != 0 { return "it has a feature that is not known here: compat bits \(compatible)" }
        return nil
    }

    private var stateProblem: String? {
        if logRoot != 0 { return "its log tree holds changes not yet in place" }
        if flags & BtrfsFlag.error != 0 { return "it is marked as having errors" }
        if flags & (BtrfsFlag.metadump | BtrfsFlag.metadump2) != 0 { return "it is a dump of metadata without data" }
        if flags & (BtrfsFlag.changingUUID | BtrfsFlag.changingUUID2) != 0 {
            return "a change of its UUID is under way"
        }
        let unknown = flags & ~BtrfsFlag.harmless
        if unknown != 0 { return "a conversion of it is under way, or its flags (\(unknown)) are not known here" }
        return nil
    }

    /// The bounds of the kernel (btrfs_validate_super in fs/btrfs/disk-io.c).
    private func geometryProblem(_ volumeByteCount: UInt64) -> String? {
        guard (4096...65536).contains(sectorSize), sectorSize & (sectorSize - 1) == 0 else {
            return "its sector size is not valid"
        }
        guard (sectorSize...65536).contains(nodeSize), nodeSize & (nodeSize - 1) == 0 else {
            return "its node size is not valid"
        }
        guard rootLevel < BtrfsTreeBlock.levelLimit, chunkRootLevel < BtrfsTreeBlock.levelLimit else {
            return "its tree levels are not valid"
        }
        guard device.filesystemUUID == metadataUUID else { return "its device belongs to another filesystem" }
        guard device.byteCount <= volumeByteCount else { return "it is larger than its partition" }
        guard device.byteCount >= Self.reservedHeadByteCount else { return "its length is not valid" }
        guard bytesUsed <= device.byteCount else { return "it claims to use more than it has" }
        guard chunkRootGeneration <= generation else { return "its generations contradict" }
        guard systemChunkByteCount <= systemChunks.count else { return "its table of system chunks is not valid" }
        return nil
    }
}

/// Bits of the superblock's flags (BTRFS_HEADER_FLAG_*, BTRFS_SUPER_FLAG_*).
enum BtrfsFlag {
    static let error: UInt64 = 1 << 2
    static let seeding: UInt64 = 1 << 32
    static let metadump: UInt64 = 1 << 33
    static let metadump2: UInt64 = 1 << 34
    static let changingUUID: UInt64 = 1 << 35
    static let changingUUID2: UInt64 = 1 << 36
    /// Written, and (long ago) relocated.
    static let harmless: UInt64 = 1 << 0 | 1 << 1
}

/// Feature bits (BTRFS_FEATURE_INCOMPAT_*, BTRFS_FEATURE_COMPAT_RO_* in include/uapi/linux/btrfs.h).
enum BtrfsFeature {
    static let mixedBackref: UInt64 = 1 << 0
    static let mixedGroups: UInt64 = 1 << 2
    static let skinnyMetadata: UInt64 = 1 << 8
    static let metadataUUID: UInt64 = 1 << 10
    static let blockGroupTree: UInt64 = 1 << 3

    /// The features with which the extent tree stays complete. Not zoned, extent_tree_v2,
    /// raid_stripe_tree, encrypt, remap_tree.
    static let mapped: UInt64 =
        1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11
        | 1 << 16
    static let knownReadOnlyCompatible: UInt64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3

    private static let incompatibleNames: [(bit: UInt64, name: String)] = [
        (0, "mixed_backref"), (1, "default_subvol"), (2, "mixed_groups"), (3, "compress_lzo"), (4, "compress_zstd"),
        (5, "big_metadata"), (6, "extended_iref"), (7, "raid56"), (8, "skinny_metadata"), (9, "no_holes"),
        (10, "metadata_uuid"), (11, "raid1c34"), (12, "zoned"), (13, "extent_tree_v2"), (14, "raid_stripe_tree"),
        (15, "encrypt"), (16, "simple_quota"), (17, "remap_tree"),
    ]
    private static let readOnlyCompatibleNames: [(bit: UInt64, name: String)] = [
        (0, "free_space_tree"), (1, "free_space_tree_valid"), (2, "verity"), (3, "block_group_tree"),
    ]

    /// The names of a superblock's features, as in sysfs.
    static func names(of superblock: BtrfsSuperblock) -> [String] {
        named(incompatibleNames, superblock.incompatible, "incompat")
            + named(readOnlyCompatibleNames, superblock.readOnlyCompatible, "compat_ro")
    }
    static func names(incompatible bits: UInt64) -> String {
        named(incompatibleNames, bits, "incompat").joined(separator: ", ")
    }
    static func names(readOnlyCompatible bits: UInt64) -> String {
        named(readOnlyCompatibleNames, bits, "compat_ro").joined(separator: ", ")
    }

    private static func named(_ names: [(bit: UInt64, name: String)], _ bits: UInt64, _ word: String) -> [String] {
        (0..<64 as Range<UInt64>).filter { bits & 1 << $0 != 0 }.map { bit in
            names.first { $0.bit == bit }?.name ?? "\(word) bit \(bit)"
        }
    }
}
