// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The superblock of an F2FS (kernel, `include/linux/f2fs_fs.h`, struct f2fs_super_block). Addresses count blocks of
/// 4 KiB; areas come in segments of 512 of them.
struct F2FSSuperblock: Sendable {
    /// F2FS_SUPER_OFFSET; a second superblock follows one block later.
    static let offset: UInt64 = 1024
    static let byteCount = 3072
    static let magic: UInt32 = 0xF2F5_2010
    static let blockSize: UInt64 = 4096
    static let segmentBlockCount: UInt64 = 512

    /// Bits of `feature` (F2FS_FEATURE_…) that do not change the layout.
    private static let features: [(bit: UInt32, name: String)] = [
        (0x1, "encrypt"), (0x4, "atomic_write"), (0x8, "extra_attr"), (0x10, "project_quota"), (0x20, "inode_checksum"),
        (0x40, "flexible_inline_xattr"), (0x80, "quota"), (0x100, "inode_crtime"), (0x200, "lost_found"),
        (0x400, "verity"), (0x800, "sb_checksum"), (0x1000, "casefold"), (0x2000, "compression"),
    ]
    /// Known but unsupported bits of `feature`: zoned disks, read-only images, other disks as files.
    private static let unfollowed: [(bit: UInt32, name: String)] = [
        (0x2, "blkzoned"), (0x4000, "ro"), (0x8000, "device_alias"),
    ]
    private static let superblockChecksum: UInt32 = 0x800

    let logSectorSize: UInt32
    let logBlockSize: UInt32
    let logSegmentBlocks: UInt32
    let blockCount: UInt64
    /// The numbers of segments of the checkpoint, SIT, NAT, SSA and main areas.
    let segmentCounts: [UInt64]
    /// The starts of these areas.
    let areas: [UInt64]
    let segment0: UInt64
    let segmentCount: UInt64
    let payloadBlockCount: UInt64
    /// Numbers of nodes without a place: they represent the nodes and the metadata as a whole.
    let virtualNodes: [UInt64]
    let feature: UInt32
    let uuid: [UInt8]
    let label: String
    private let deviceCount: Int
    private let isMarkedWithErrors: Bool
    private let isChecksumRight: Bool
    /// The fields that must be equal in both copies.
    let layout: [UInt8]

    var main: UInt64 { areas[4] }
    var mainSegmentCount: UInt64 { segmentCounts[4] }
    /// `nil` for an impossible block size.
    var filesystemByteCount: UInt64? {
        let (bytes, overflow) = blockCount.multipliedReportingOverflow(by: Self.blockSize)
        return overflow ? nil : bytes
    }
    var featureNames: [String] {
        (Self.features + Self.unfollowed).filter { feature & $0.bit != 0 }.map(\.name)
    }

    /// `nil` without an F2FS.
    init?(_ bytes: [UInt8]) throws(ParsingError) {
        guard try bytes.littleEndian(UInt32.self, at: 0) == Self.magic else { return nil }
        func word(_ offset: Int) throws(ParsingError) -> UInt64 {
            UInt64(try bytes.littleEndian(UInt32.self, at: offset))
        }
        logSectorSize = try bytes.littleEndian(UInt32.self, at: 8)  // log_sectorsize
        logBlockSize = try bytes.littleEndian(UInt32.self, at: 16)  // log_blocksize
        logSegmentBlocks = try bytes.littleEndian(UInt32.self, at: 20)  // log_blocks_per_seg
        blockCount = try bytes.littleEndian(UInt64.self, at: 36)  // block_count
        segmentCount = try word(48)  // segment_count
        // segment_count_ckpt, _sit, _nat, _ssa, _main
        segmentCounts = [try word(52), try word(56), try word(60), try word(64), try word(68)]
        segment0 = try word(72)  // segment0_blkaddr
        // cp_blkaddr, sit_blkaddr, nat_blkaddr, ssa_blkaddr, main_blkaddr
        areas = [try word(76), try word(80), try word(84), try word(88), try word(92)]
        virtualNodes = [try word(100), try word(104)]  // node_ino, meta_ino
        uuid = try bytes.bytes(at: 108, count: 16)
        var units: [UInt16] = []
        for index in 0..<512 {  // volume_name
            let unit = try bytes.littleEndian(UInt16.self, at: 124 + 2 * index)
            if unit == 0 { break }
            units.append(unit)
        }
        label = String(decoding: units, as: UTF16.self)
        payloadBlockCount = try word(1664)  // cp_payload
        feature = try bytes.littleEndian(UInt32.self, at: 2180)
        var deviceCount = 0
        for index in 0..<8 where try bytes.bytes(at: 2201 + 68 * index, count: 1) != [0] { deviceCount += 1 }  // devs
        self.deviceCount = deviceCount
        // s_stop_reason, s_errors: counters and bits of errors.
        isMarkedWithErrors = try bytes.bytes(at: 2762, count: 48).contains { $0 != 0 }
        let place = Int(try word(32))  // checksum_offset
        if feature & Self.superblockChecksum == 0 {
            isChecksumRight = true
        } else {
            let found = try bytes.littleEndian(UInt32.self, at: 3068)  // crc
            isChecksumRight = place == 3068 && found == F2FSCheckpoint.checksum(Array(bytes[..<3068]))
        }
        layout = try bytes.bytes(at: 0, count: 108) + bytes.bytes(at: 1664, count: 4) + bytes.bytes(at: 2180, count: 4)
    }

    /// Why its structures cannot be relied on; `nil` if they can.
    func problem(volumeByteCount: UInt64) -> String? {
        guard isChecksumRight else { return "the checksum of its superblock is wrong" }
        guard logBlockSize == 12, logSegmentBlocks == 9 else { return "its block or segment size is not followed" }
        if let odd = Self.unfollowed.first(where: { feature & $0.bit != 0 }) {
            return "it has a feature that is not followed here: \(odd.name)"
        }
        let known = Self.features.reduce(0 as UInt32) { $0 | $1.bit }
        guard feature & ~known == 0 else { return "it has a feature that is not known here" }
        guard deviceCount <= 1 else { return "it lies on other disks too" }
        guard !isMarkedWithErrors else { return "it is marked as having errors" }
        guard let byteCount = filesystemByteCount, byteCount <= volumeByteCount else {
            return "it is larger than its partition"
        }
        // The areas are contiguous (sanity_check_area_boundary); all numbers here have 32 bits.
        var place = segment0
        for (area, segments) in zip(areas, segmentCounts) {
            guard area == place else { return "its areas do not follow each other" }
            place += segments * Self.segmentBlockCount
        }
        guard place <= segment0 + segmentCount * Self.segmentBlockCount, place <= blockCount,
            segmentCounts[0] == 2, mainSegmentCount > 0
        else { return "its areas are not as large as it says" }
        return nil
    }
}
