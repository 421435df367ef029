// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The header of a partclone image, version 0001 or 0002 (partclone's IMAGE_FORMATS.md and `src/partclone.h`). The facts
/// that differ from that page were found in images: docs/foreign-images.md.
struct PartcloneHeader: Equatable, Sendable {
    enum Checksum: Equatable, Sendable {
        case none
        /// CRC-32 without the inversion at the end.
        case crc32
        case xxh64
        case xxh128
        /// The checksum of version 0001: the first byte of each block, digested as often as the block is long.
        case firstByte

        /// The length of a stored value in bytes.
        var byteCount: Int {
            switch self {
            case .none: 0
            case .crc32, .firstByte: 4
            case .xxh64: 8
            case .xxh128: 16
            }
        }
    }

    enum Bitmap: Equatable, Sendable {
        case none
        /// One bit a block, the least significant one first, then a CRC-32.
        case bits
        /// One byte a block, then `BiTmAgIc`.
        case bytes
    }

    /// 1 or 2.
    var version: Int
    /// The name of the filesystem: never the only reason for a decision.
    var filesystem: String
    /// The length of the source device in bytes.
    var deviceByteCount: UInt64
    var blockCount: UInt64
    /// The length of a block in bytes.
    var blockSize: Int
    var checksum: Checksum
    /// Stored blocks for one checksum.
    var blocksPerChecksum: UInt64
    /// Whether each checksum starts from the beginning; otherwise it digests everything so far.
    var startsOver: Bool
    var bitmap: Bitmap

    static let magic = Array("partclone-image".utf8)
    /// The number of bytes of each version, up to the bitmap.
    static let byteCounts = [1: 4160, 2: 110]
    /// The bytes from which the version is read.
    static let prefixByteCount = 36
    /// The mark behind a bitmap of bytes.
    static let bitmapMark = Array("BiTmAgIc".utf8)
    private static let largestBlock = 64 << 20
    /// The largest plausible volume, in bytes.
    private static let longest: UInt64 = 1 << 60

    /// The version by the first `prefixByteCount` bytes.
    /// - Throws: `ParsingError` with the reason for a version that is not known.
    static func version(_ bytes: [UInt8]) throws(ParsingError) -> Int {
        guard bytes.starts(with: magic) else { throw .invalid(what: "the mark of a partclone image") }
        guard bytes.count >= prefixByteCount else { throw .invalid(what: "the length of its header") }
        if try bytes.text(at: 30, count: 4) == "0001" { return 1 }
        let text = try bytes.text(at: 30, count: 4)
        guard text == "0002" else { throw .invalid(what: "its version \"\(text)\" (known: 0001 and 0002)") }
        // The byte-order mark 0xC0DE in the order of the machine.
        switch (bytes[34], bytes[35]) {
        case (0xDE, 0xC0): return 2
        case (0xC0, 0xDE):
            throw .invalid(what: "its byte order: a big-endian machine made it, and partclone reads it only there;")
        default: throw .invalid(what: "its byte-order mark")
        }
    }

    /// - Parameter bytes: the whole header, `byteCounts[version]` bytes.
    init(_ bytes: [UInt8]) throws(ParsingError) {
        version = try Self.version(bytes)
        if version == 1 {
            // 15 bytes of magic number without a NUL, 15 of the filesystem, the version, 2 of padding.
            filesystem = try bytes.text(at: 15, count: 15)
            let size: Int32 = try bytes.littleEndian(at: 36)
            blockSize = Int(size)
            blockCount = try bytes.littleEndian(at: 48)
            (checksum, blocksPerChecksum, startsOver, bitmap) = (.firstByte, 1, false, .bytes)
            try Self.check(blockSize)
            deviceByteCount = try blockCount.multiplied(by: UInt64(blockSize), "the length of the volume")
        } else {
            let stored: UInt32 = try bytes.littleEndian(at: 106)
            guard stored == CRC32.iso.update(.max, try bytes.bytes(at: 0, count: 106)) else {
                throw .invalid(what: "the checksum of its header")
            }
            filesystem = try bytes.text(at: 36, count: 16)
            deviceByteCount = try bytes.littleEndian(at: 52)
            blockCount = try bytes.littleEndian(at: 60)
            let size: UInt32 = try bytes.littleEndian(at: 84)
            blockSize = Int(size)
            guard try bytes.littleEndian(UInt32.self, at: 88) == 18, try bytes.littleEndian(UInt16.self, at: 92) == 2
            else { throw .invalid(what: "the length of its header's second part") }
            checksum = try Self.checksum(try bytes.littleEndian(at: 96))
            guard try Int(bytes.littleEndian(UInt16.self, at: 98)) == checksum.byteCount else {
                throw .invalid(what: "the length of its checksums")
            }
            blocksPerChecksum = UInt64(try bytes.littleEndian(UInt32.self, at: 100))
            startsOver = try bytes.littleEndian(UInt8.self, at: 104) != 0
            bitmap = try Self.bitmap(try bytes.littleEndian(UInt8.self, at: 105))
            try Self.check(blockSize)
        }
        try checkLengths()
    }

    private static func checksum(_ mode: UInt16) throws(ParsingError) -> Checksum {
        switch mode {
        case 0: .none
        case 0x20: .crc32
        case 0x30: .xxh64
        case 0x31: .xxh128
        case 0xFF: .firstByte
        default: throw .invalid(what: "its kind of checksum, \(mode),")
        }
    }

    private static func bitmap(_ mode: UInt8) throws(ParsingError) -> Bitmap {
        switch mode {
        case 0: .none
        case 1: .bits
        case 8: .bytes
        default: throw .invalid(what: "its kind of bitmap, \(mode),")
        }
    }

    private static func check(_ blockSize: Int) throws(ParsingError) {
        guard blockSize > 0, blockSize <= largestBlock else { throw .invalid(what: "a block of \(blockSize) bytes") }
    }

    private func checkLengths() throws(ParsingError) {
        let byteCount = try blockCount.multiplied(by: UInt64(blockSize), "the length of the volume")
        guard blockCount > 0, deviceByteCount <= Self.longest else { throw .invalid(what: "the length of the volume") }
        guard byteCount <= deviceByteCount else {
            throw .invalid(what: "a volume of \(byteCount) bytes on a device of \(deviceByteCount)")
        }
        guard checksum == .none || blocksPerChecksum > 0 else { throw .invalid(what: "a checksum for no blocks") }
    }

    /// The bytes of all blocks, stored or not.
    var blocksByteCount: UInt64 { blockCount * UInt64(blockSize) }
}
