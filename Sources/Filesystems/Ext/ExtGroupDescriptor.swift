// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// A block group descriptor (kernel documentation, "Block Group Descriptors" §3.2).
struct ExtGroupDescriptor {
    let blockBitmap: UInt64
    let inodeBitmap: UInt64
    let inodeTable: UInt64
    let freeClusterCount: UInt32
    let freeInodeCount: UInt32
    let flags: UInt16
    /// The number of never used inodes at the end of its table, according to the descriptor.
    let unusedInodeCount: UInt32
    /// Only the low 16 bits where the descriptor has 32 bytes.
    let blockBitmapChecksum: UInt32
    let checksumIsRight: Bool

    /// Whether its block bitmap was never written (EXT4_BG_BLOCK_UNINIT).
    var blockBitmapIsUninitialised: Bool { flags & 2 != 0 }

    /// Whether no inode of its table was ever used, according to the descriptor (EXT4_BG_INODE_UNINIT).
    var inodeTableIsUninitialised: Bool { flags & 1 != 0 }

    /// Reads the descriptor of `group` at `offset` of `bytes`.
    init(
        _ bytes: [UInt8], at offset: Int, group: UInt32, of superblock: ExtSuperblock
    ) throws(ParsingError) {
        let raw = try bytes.bytes(at: offset, count: superblock.descriptorSize)
        let isWide = raw.count >= 64
        func joined(_ low: Int, _ high: Int) throws(ParsingError) -> UInt64 {
            let upper: UInt32 = isWide ? try raw.littleEndian(at: high) : 0
            return UInt64(upper) << 32 | UInt64(try raw.littleEndian(UInt32.self, at: low))
        }
        func joinedHalves(_ low: Int, _ high: Int) throws(ParsingError) -> UInt32 {
            let upper: UInt16 = isWide ? try raw.littleEndian(at: high) : 0
            return UInt32(upper) << 16 | UInt32(try raw.littleEndian(UInt16.self, at: low))
        }
        blockBitmap = try joined(0x0, 0x20)  // bg_block_bitmap_lo, _hi
        inodeBitmap = try joined(0x4, 0x24)  // bg_inode_bitmap_lo, _hi
        inodeTable = try joined(0x8, 0x28)  // bg_inode_table_lo, _hi
        freeClusterCount = try joinedHalves(0xC, 0x2C)  // bg_free_blocks_count_lo, _hi: clusters under bigalloc
        freeInodeCount = try joinedHalves(0xE, 0x2E)  // bg_free_inodes_count_lo, _hi
        // Without a checksum feature the flags are meaningless.
        flags = superblock.hasDescriptorChecksums ? try raw.littleEndian(at: 0x12) : 0  // bg_flags
        // bg_itable_unused_lo, _hi
        unusedInodeCount = superblock.hasDescriptorChecksums ? try joinedHalves(0x1C, 0x32) : 0
        blockBitmapChecksum = try joinedHalves(0x18, 0x38)  // bg_block_bitmap_csum_lo, _hi
        let stored: UInt16 = try raw.littleEndian(at: 0x1E)  // bg_checksum
        checksumIsRight = try Self.checksum(raw, group, superblock).map { $0 == stored } ?? true
    }

    /// "Block Group Descriptors" §3.2, "The block group descriptor checksum is calculated in this manner"; `nil` where
    /// there is none.
    private static func checksum(
        _ raw: [UInt8], _ group: UInt32, _ superblock: ExtSuperblock
    ) throws(ParsingError) -> UInt16? {
        var number: [UInt8] = []
        number.appendLittleEndian(group)
        let head = try raw.bytes(at: 0, count: 0x1E)
        let tail = try raw.bytes(at: 0x20, count: raw.count - 0x20)
        if superblock.has(readOnlyCompatible: ExtFeature.metadataChecksum) {
            let full = ExtChecksum.crc32c(ExtChecksum.crc32c(superblock.checksumSeed, number), head + [0, 0] + tail)
            return UInt16(truncatingIfNeeded: full)
        }
        guard superblock.has(readOnlyCompatible: ExtFeature.descriptorChecksum) else { return nil }
        return ExtChecksum.crc16(.max, superblock.uuid + number + head + tail)
    }
}
