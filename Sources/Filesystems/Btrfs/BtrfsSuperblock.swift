// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The superblock of Btrfs (`struct btrfs_super_block` in the kernel's include/uapi/linux/btrfs_tree.h;
/// "On-disk Format", Superblock, in the Btrfs documentation). Numbers are unchecked until
/// `problem(volumeByteCount:)` has returned `nil`.
struct BtrfsSuperblock: Equatable {
    /// The primary and its mirrors (BTRFS_SUPER_INFO_OFFSET; btrfs_sb_offset: 16 KiB << 12 n). Kernels write the first
    /// three; the fourth is in the documentation.
    static let offsets: [UInt64] = [64 << 10, 64 << 20, 256 << 30, 1 << 50]
    static let byteCount = 4096
    /// The bytes around each copy that are never allocated: a stripe (BTRFS_STRIPE_LEN).
    static let reservedByteCount: UInt64 = 64 << 10
    /// The start of a device that is never allocated (BTRFS_DEVICE_RANGE_RESERVED).
    static let reservedHeadByteCount: UInt64 = 1 << 20

    let checksumType: UInt16
    /// `nil` for an unsupported checksum type.
    let checksumIsRight: Bool?
    let uuid: [UInt8]
    let byteNumber: UInt64
    let flags: UInt64
    let generation: UInt64
    let root: UInt64
    let chunkRoot: UInt64
    let logRoot: UInt64
    let bytesUsed: UInt64
    let deviceCount: UInt64
    let sectorSize: UInt32
    let nodeSize: UInt32
    let chunkRootGeneration: UInt64
    let compatible: UInt64
    let readOnlyCompatible: UInt64
    let incompatible: UInt64
    let rootLevel: UInt8
    let chunkRootLevel: UInt8
    let device: BtrfsDeviceItem
    let label: String
    private let metadataUUIDField: [UInt8]
    let systemChunkByteCount: UInt32
    /// The part of sys_chunk_array that can be in use.
    let systemChunks: [UInt8]

    /// `nil` if the magic number is missing.
    init?(_ bytes: [UInt8]) throws(ParsingError) {
        // magic
        guard try bytes.bytes(at: 64, count: 8) == Array("_BHRfS_M".utf8) else { return nil }
        checksumType = try bytes.littleEndian(at: 196)  // csum_type
        checksumIsRight = BtrfsChecksum(rawValue: checksumType)?.isRight(bytes)  // csum
        uuid = try bytes.bytes(at: 32, count: 16)  // fsid
        byteNumber = try bytes.littleEndian(at: 48)  // bytenr
        flags = try bytes.littleEndian(at: 56)  // flags
        generation = try bytes.littleEndian(at: 72)  // generation
        root = try bytes.littleEndian(at: 80)  // root
        chunkRoot = try bytes.littleEndian(at: 88)  // chunk_root
        logRoot = try bytes.littleEndian(at: 96)  // log_root
        bytesUsed = try bytes.littleEndian(at: 120)  // bytes_used
        deviceCount = try bytes.littleEndian(at: 136)  // num_devices
        sectorSize = try bytes.littleEndian(at: 144)  // sectorsize
        nodeSize = try bytes.littleEndian(at: 148)  // nodesize
        systemChunkByteCount = try bytes.littleEndian(at: 160)  // sys_chunk_array_size
        chunkRootGeneration = try bytes.littleEndian(at: 164)  // chunk_root_generation
        compatible = try bytes.littleEndian(at: 172)  // compat_flags
        readOnlyCompatible = try bytes.littleEndian(at: 180)  // compat_ro_flags
        incompatible = try bytes.littleEndian(at: 188)  // incompat_flags
        rootLevel = try bytes.littleEndian(at: 198)  // root_level
        chunkRootLevel = try bytes.littleEndian(at: 199)  // chunk_root_level
        device = try BtrfsDeviceItem(bytes, at: 201)  // dev_item
        label = try bytes.text(at: 299, count: 256)  // label
        metadataUUIDField = try bytes.bytes(at: 571, count: 16)  // metadata_uuid
        systemChunks = try bytes.bytes(at: 811, count: 2048)  // sys_chunk_array
    }

    /// The fsid in tree blocks: it differs from the filesystem's UUID once `btrfstune -m` has changed that.
    var metadataUUID: [UInt8] { incompatible & BtrfsFeature.metadataUUID != 0 ? metadataUUIDField : uuid }

    func has(incompatible feature: UInt64) -> Bool { incompatible & feature != 0 }
    func has(readOnlyCompatible feature: UInt64) -> Bool { readOnlyCompatible & feature != 0 }
}

/// A device (`struct btrfs_dev_item`, 98 bytes).
struct BtrfsDeviceItem: Equatable {
    static let byteCount = 98

    let id: UInt64
    let byteCount: UInt64
    let uuid: [UInt8]
    let filesystemUUID: [UInt8]

    init(_ bytes: [UInt8], at offset: Int) throws(ParsingError) {
        let item = try bytes.bytes(at: offset, count: Self.byteCount)
        id = try item.littleEndian(at: 0)  // devid
        byteCount = try item.littleEndian(at: 8)  // total_bytes
        uuid = try item.bytes(at: 66, count: 16)  // uuid
        filesystemUUID = try item.bytes(at: 82, count: 16)  // fsid
    }
}
