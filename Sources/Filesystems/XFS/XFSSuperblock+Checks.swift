// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

extension XFSSuperblock {
    /// Why the free-space trees cannot be trusted, as a sentence part; `nil` without a reason. Afterwards every count
    /// is inside the bounds that the rest of the reader relies on. The state of the log is not checked.
    /// - Parameter sector: the first sector of the volume, for the checksum: `sectorSize` bytes of it.
    func problem(sector: [UInt8], volumeByteCount: UInt64) -> String? {
        if let problem = featureProblem { return problem }
        if !checksumIsRight(sector) { return "the checksum of its superblock is wrong" }
        if isInProgress { return "it was not finished when it was made" }
        if has(incompatible: XFSFeature.needsRepair) { return "it is marked as in need of a repair" }
        if realtimeBlockCount > 0 || realtimeExtentCount > 0 { return "it has a realtime device" }
        if isLogExternal { return "it has an external log" }
        do { return try geometryProblem(volumeByteCount) } catch { return error.description }
    }

    func has(incompatible feature: UInt32) -> Bool { incompatible & feature != 0 }
    func has(readOnlyCompatible feature: UInt32) -> Bool { readOnlyCompatible & feature != 0 }

    private var featureProblem: String? {
        guard version == 4 || version == 5 else { return "its version \(version) is not known here" }
        // The kernel mounts no filesystem without these (xfs_sb_good_version).
        let needed = XFSFeature.directoryVersion2 | XFSFeature.unwrittenExtents
        guard versionField & needed == needed, versionField & XFSFeature.shared == 0 else {
            return "its version flags (\(versionField)) are not known here"
        }
        let known2 = XFSFeature.known2 | (hasChecksums ? XFSFeature.checksums2 : 0)
        // They are valid only with XFS_SB_VERSION_MOREBITSBIT; unknown ones are refused in either case.
        guard features2 & ~known2 == 0 else { return "its second feature flags (\(features2)) are not known here" }
        let unknown = incompatible & ~XFSFeature.knownIncompatible
        guard unknown == 0 else {
            return "it has a feature that is not mapped here: \(XFSFeature.names(incompatible: unknown))"
        }
        let unknownReadOnly = readOnlyCompatible & ~XFSFeature.knownReadOnlyCompatible
        guard unknownReadOnly == 0 else {
            return "it has a feature that is not mapped here: \(XFSFeature.names(readOnlyCompatible: unknownReadOnly))"
        }
        guard logIncompatible & ~XFSFeature.knownLogIncompatible == 0 else {
            return "its log has a feature that is not known here"
        }
        return nil
    }

    /// The bounds of the kernel (`fs/xfs/libxfs/xfs_sb.c`, xfs_validate_sb_common).
    private func geometryProblem(_ volumeByteCount: UInt64) throws(ParsingError) -> String? {
        guard hasValidSectorSize, logOfBlockSize >= 9, logOfBlockSize <= 16, blockSize == 1 << UInt32(logOfBlockSize),
            blockSize >= (hasChecksums ? 1024 : 512), UInt32(sectorSize) <= blockSize
        else { return "its block or sector size is not valid" }
        // XFS_DINODE_MIN_SIZE (512 with checksums), XFS_DINODE_MAX_SIZE
        guard inodeSize >= (hasChecksums ? 512 : 256), inodeSize <= 2048, logOfInodesPerBlock < 16,
            UInt32(inodesPerBlock) == 1 << UInt32(logOfInodesPerBlock),
            UInt32(inodesPerBlock) * UInt32(inodeSize) == blockSize
        else { return "the size of its inodes is not valid" }
        let groupBlocks = UInt64(groupBlockCount)
        // XFS_MIN_AG_BYTES, XFS_MAX_AG_BYTES
        guard groupBlocks * UInt64(blockSize) >= 16 << 20, groupBlocks * UInt64(blockSize) <= 1 << 40,
            Int(logOfGroupBlockCount) == UInt32.bitWidth - (groupBlockCount - 1).leadingZeroBitCount
        else { return "the size of its allocation groups is not valid" }
        // The last group has at least XFS_MIN_AG_BLOCKS.
        guard blockCount > 0, try blockCount.dividedRoundingUp(by: groupBlocks, "its groups") == UInt64(groupCount),
            blockCount - (UInt64(groupCount) - 1) * groupBlocks >= 64
        else { return "the number of its allocation groups is not valid" }
        guard try blockCount.multiplied(by: UInt64(blockSize), "its size") <= volumeByteCount else {
            return "it is larger than its partition"
        }
        let (group, block) = place(ofBlock: logStart)
        // XFS_MAX_LOG_BLOCKS, XFS_MAX_LOG_BYTES; and a log never leaves its group.
        guard logBlockCount > 0, logBlockCount <= 1 << 20, UInt64(logBlockCount) * UInt64(blockSize) <= 2 << 30,
            group < UInt64(groupCount), block < blockCount(ofGroup: group),
            UInt64(logBlockCount) <= blockCount(ofGroup: group) - block
        else { return "the place of its log is not valid" }
        return nil
    }

    /// Whether the sector size is possible (XFS_MIN_SECTORSIZE, XFS_MAX_SECTORSIZE).
    var hasValidSectorSize: Bool {
        logOfSectorSize >= 9 && logOfSectorSize <= 15 && Int(sectorSize) == 1 << Int(logOfSectorSize)
    }
}

/// Feature flags (kernel, `fs/xfs/libxfs/xfs_format.h`: XFS_SB_VERSION_*, XFS_SB_VERSION2_*, XFS_SB_FEAT_*).
enum XFSFeature {
    static let shared: UInt16 = 0x0200
    static let logVersion2: UInt16 = 0x0400
    static let unwrittenExtents: UInt16 = 0x1000
    static let directoryVersion2: UInt16 = 0x2000

    static let checksums2: UInt32 = 0x100
    /// lazy-count, attr2, projid32bit, ftype (XFS_SB_VERSION2_OKBITS).
    static let known2: UInt32 = 0x2 | 0x8 | 0x80 | 0x200

    static let freeInodes: UInt32 = 0x1
    static let reverseMappings: UInt32 = 0x2
    static let reflink: UInt32 = 0x4

    static let sparseInodes: UInt32 = 0x2
    static let metadataUUID: UInt32 = 0x4
    static let needsRepair: UInt32 = 0x10
    /// ftype, sparse, meta_uuid, bigtime, needsrepair, nrext64, exchange, parent. metadir and features based on it
    /// (zoned, zone gaps) may put realtime groups on the same device, so they are not mapped.
    static let knownIncompatible: UInt32 = 0xFF
    /// finobt, rmapbt, reflink, inobtcount.
    static let knownReadOnlyCompatible: UInt32 = 0xF
    /// Logged extended attributes; irrelevant with a clean log.
    static let knownLogIncompatible: UInt32 = 0x1

    private static let names2: [(bit: UInt32, name: String)] = [
        (1, "lazy-count"), (3, "attr2"), (7, "projid32bit"), (9, "ftype"),
    ]
    private static let incompatibleNames: [(bit: UInt32, name: String)] = [
        (0, "ftype"), (1, "sparse"), (2, "meta_uuid"), (3, "bigtime"), (4, "needsrepair"), (5, "nrext64"),
        (6, "exchange"), (7, "parent"), (8, "metadir"), (9, "zoned"), (10, "zone gaps"),
    ]
    private static let readOnlyCompatibleNames: [(bit: UInt32, name: String)] = [
        (0, "finobt"), (1, "rmapbt"), (2, "reflink"), (3, "inobtcount"),
    ]

    /// The version, and the names of the features as in `mkfs.xfs`.
    static func names(of superblock: XFSSuperblock) -> [String] {
        let version = ["v\(superblock.version)"]
        guard superblock.hasChecksums else {
            return version + names2.filter { superblock.features2 & 1 << $0.bit != 0 }.map(\.name)
        }
        return version + FilesystemInfo.featureNames(incompatibleNames, superblock.incompatible, "incompat")
            + FilesystemInfo.featureNames(readOnlyCompatibleNames, superblock.readOnlyCompatible, "ro_compat")
    }
    static func names(incompatible bits: UInt32) -> String {
        FilesystemInfo.featureNames(incompatibleNames, bits, "incompat").joined(separator: ", ")
    }
    static func names(readOnlyCompatible bits: UInt32) -> String {
        FilesystemInfo.featureNames(readOnlyCompatibleNames, bits, "ro_compat").joined(separator: ", ")
    }
}
