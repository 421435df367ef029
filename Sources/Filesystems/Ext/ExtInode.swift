// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The parts of an inode that locate the blocks of its file (kernel documentation, "Index Nodes" §4.1).
struct ExtInode {
    private static let encodedByExtents: UInt32 = 0x80000  // EXT4_EXTENTS_FL
    private static let encodedInline: UInt32 = 0x1000_0000  // EXT4_INLINE_DATA_FL
    private static let extendedAttribute: UInt32 = 0x20_0000  // EXT4_EA_INODE_FL

    let number: UInt32
    let flags: UInt32
    /// The block of its extended attributes; 0 for none.
    let attributeBlock: UInt64
    /// i_block, as described in "The Contents of inode.i_block" §4.2.
    let blockBytes: [UInt8]
    private let mode: UInt16
    private let byteCount: UInt64
    private let sectorCount: UInt32
    private let mayShareAttributes: Bool
    private let raw: [UInt8]

    /// Whether the inode at `place` belongs to a file: a deleted one has no links, a never used one no mode.
    static func isInUse(_ bytes: [UInt8], at place: Int) -> Bool {
        place >= 0 && place + 0x1C <= bytes.count && bytes[place + 0x1A] | bytes[place + 0x1B] != 0  // i_links_count
            && bytes[place] | bytes[place + 1] != 0  // i_mode
    }

    init(_ bytes: [UInt8], at place: Int, number: UInt32, of superblock: ExtSuperblock) throws(ParsingError) {
        raw = try bytes.bytes(at: place, count: Int(superblock.inodeSize))
        self.number = number
        mode = try raw.littleEndian(at: 0x0)  // i_mode
        let low = try raw.littleEndian(UInt32.self, at: 0x4)  // i_size_lo
        let high = try raw.littleEndian(UInt32.self, at: 0x6C)  // i_size_high
        byteCount = UInt64(high) << 32 | UInt64(low)
        sectorCount = try raw.littleEndian(at: 0x1C)  // i_blocks_lo
        mayShareAttributes = superblock.has(incompatible: ExtFeature.attributeInodes)
        flags = try raw.littleEndian(at: 0x20)  // i_flags
        blockBytes = try raw.bytes(at: 0x28, count: 60)  // i_block
        // i_file_acl_lo; l_i_file_acl_high counts only with 64 bits.
        let attributesLow = try raw.littleEndian(UInt32.self, at: 0x68)
        let attributesHigh =
            superblock.has(incompatible: ExtFeature.bit64) ? try raw.littleEndian(UInt16.self, at: 0x76) : 0
        attributeBlock = UInt64(attributesHigh) << 32 | UInt64(attributesLow)
    }

    var isFolder: Bool { mode & 0xF000 == 0x4000 }
    var usesExtents: Bool { flags & Self.encodedByExtents != 0 }
    /// Whether i_block contains the start of the contents.
    var isInline: Bool { flags & Self.encodedInline != 0 }
    /// Whether it holds an extended attribute of another inode: no name leads to it.
    var holdsAttribute: Bool { flags & Self.extendedAttribute != 0 }

    /// Whether i_block locates blocks. A symbolic link of less than 60 bytes is stored in it, unless the inode has
    /// blocks that cannot be those of attributes (ext4_inode_is_fast_symlink).
    var ownsBlocks: Bool {
        guard !isInline else { return false }
        switch mode & 0xF000 {
        case 0x8000, 0x4000: return true
        case 0xA000: return usesExtents || byteCount >= 60 || hasOwnSectors
        default: return false
        }
    }

    private var hasOwnSectors: Bool { sectorCount != 0 && attributeBlock == 0 && !mayShareAttributes }

    /// Whether its checksum is correct, if the filesystem has checksums ("Checksums" §2.7: UUID,
    /// number, generation, inode).
    func checksumIsRight(of superblock: ExtSuperblock) -> Bool {
        guard superblock.has(readOnlyCompatible: ExtFeature.metadataChecksum) else { return true }
        guard let generation = try? raw.bytes(at: 0x64, count: 4),  // i_generation
            let low = try? raw.littleEndian(UInt16.self, at: 0x7C)  // l_i_checksum_lo
        else { return false }
        var plain = raw
        plain.setLittleEndian(0 as UInt16, at: 0x7C)
        var stored = UInt32(low)
        var mask: UInt32 = 0xFFFF
        // i_checksum_hi, where i_extra_isize reaches it.
        if raw.count > 0x84, let extra = try? raw.littleEndian(UInt16.self, at: 0x80), extra >= 4,
            let high = try? raw.littleEndian(UInt16.self, at: 0x82)
        {
            plain.setLittleEndian(0 as UInt16, at: 0x82)
            stored |= UInt32(high) << 16
            mask = .max
        }
        var numberBytes: [UInt8] = []
        numberBytes.appendLittleEndian(number)
        let seed = ExtChecksum.crc32c(ExtChecksum.crc32c(superblock.checksumSeed, numberBytes), generation)
        return ExtChecksum.crc32c(seed, plain) & mask == stored
    }
}
