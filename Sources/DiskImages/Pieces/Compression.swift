// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs

/// A compression of streams: a row of `Compression.table`.
struct Compression: Sendable {
    enum Decoder: Sendable {
        /// The bytes themselves.
        case plain
        case codec(@Sendable () throws(CodecError) -> any StreamDecompressor)
        /// A program that decompresses standard input to standard output, of the Debian package of that name, and its
        /// options.
        case program(String, options: String)
    }

    /// The name in messages: "gzip".
    let name: String
    /// Whether the first bytes show it.
    let recognize: @Sendable ([UInt8]) -> Bool
    let decoder: Decoder
    /// Whether the format holds no checksum of the content, according to its first bytes; a codec finds out itself.
    var isUnchecked: @Sendable ([UInt8]) -> Bool = { _ in false }

    /// The number of first bytes that recognition needs.
    static let headByteCount = 24

    static let none = Compression(
        name: "none", recognize: { _ in true }, decoder: .plain, isUnchecked: { _ in true })

    static let table: [Compression] = [
        // RFC 8878 §3.1.1.
        Compression(
            name: "zstd", recognize: { $0.starts(with: [0x28, 0xB5, 0x2F, 0xFD]) },
            decoder: .codec { () throws(CodecError) in try ZstdStreamDecompressor() }),
        // Section 2.1.1.1 of the .xz file format.
        Compression(
            name: "xz", recognize: { $0.starts(with: [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00]) },
            decoder: .codec { () throws(CodecError) in try XZStreamDecompressor() }),
        // RFC 1952 §2.3.1: the identification, and deflate.
        Compression(
            name: "gzip", recognize: { $0.starts(with: [0x1F, 0x8B, 0x08]) },
            decoder: .program("gzip", options: "-dc")),
        Compression(
            name: "bzip2",
            recognize: { $0.starts(with: Array("BZh".utf8)) && $0.dropFirst(4).starts(with: [0x31, 0x41]) },
            decoder: .program("bzip2", options: "-dc")),
        // "LZ4 Frame Format", §"General Structure"; bit 2 of the next byte says whether the content has a checksum.
        Compression(
            name: "lz4", recognize: { $0.starts(with: [0x04, 0x22, 0x4D, 0x18]) },
            decoder: .program("lz4", options: "-dcq"),
            isUnchecked: { $0.count > 4 && $0[4] & 0x04 == 0 }),
        // The magic number of lzop. Flags say whether the blocks have checksums, Adler-32 (the last byte) or CRC-32, of
        // their content (bit 0) or as they are stored (bit 1); `lzop -F` writes none.
        Compression(
            name: "lzo", recognize: { $0.starts(with: [0x89, 0x4C, 0x5A, 0x4F, 0x00, 0x0D, 0x0A, 0x1A, 0x0A]) },
            decoder: .program("lzop", options: "-dc"),
            isUnchecked: { head in
                guard let flags = try? head.bytes(at: 17, count: 4) else { return true }
                return flags[3] & 0x03 == 0 && flags[2] & 0x03 == 0
            }),
        Compression(
            name: "lzip", recognize: { $0.starts(with: Array("LZIP".utf8)) },
            decoder: .codec { () throws(CodecError) in try XZStreamDecompressor(.lzip) }),
        // No magic number: the default properties, a dictionary of 2^n or 2^n + 2^(n-1) bytes, and the length of the
        // content, which is unknown or plausible (lzma-file-format, §1.1).
        Compression(
            name: "lzma", recognize: { looksLikeLZMA($0) },
            decoder: .codec { () throws(CodecError) in try XZStreamDecompressor(.lzma) }),
    ]

    /// The compression of a stream by its first bytes.
    static func detect(_ head: [UInt8]) -> Compression { table.first { $0.recognize(head) } ?? none }

    private static func looksLikeLZMA(_ head: [UInt8]) -> Bool {
        guard head.count >= 13, head[0] == 0x5D,
            let dictionary = try? head.littleEndian(UInt32.self, at: 1),
            let byteCount = try? head.littleEndian(UInt64.self, at: 5)
        else { return false }
        let isUsual = dictionary >= 1 << 12 && (dictionary.nonzeroBitCount == 1 || dictionary.nonzeroBitCount == 2)
        return isUsual && (byteCount == .max || byteCount > 0 && byteCount < 1 << 50)
    }
}
