// SPDX-License-Identifier: GPL-3.0-or-later

/// A compression of initramfs segments that Linux can unpack (lib/decompress.c).
package enum InitramfsCompression: String, Codable, CaseIterable, Sendable {
    case zstd, gzip, xz, lzma, bzip2, lz4, lzo

    /// The number of first bytes that `init(head:)` needs.
    package static let headByteCount = 8

    /// The compression of a stream by its first bytes; `nil` if they are none that Linux knows.
    package init?(head: [UInt8]) {
        for compression in Self.allCases where compression.magics.contains(where: head.starts(with:)) {
            self = compression
            return
        }
        return nil
    }

    private var magics: [[UInt8]] {
        switch self {
        case .zstd: [[0x28, 0xB5, 0x2F, 0xFD]]  // RFC 8878 §3.1.1
        case .gzip: [[0x1F, 0x8B], [0x1F, 0x9E]]  // RFC 1952 §2.3.1; the second is Linux's "old gzip"
        case .xz: [[0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00]]  // xz 1.2.0 §2.1.1.1
        case .lzma: [[0x5D, 0x00, 0x00]]  // lzma-file-format §1.1: default properties, no small dictionary
        case .bzip2: [[0x42, 0x5A, 0x68]]
        case .lz4: [[0x02, 0x21, 0x4C, 0x18]]  // "LZ4 Frame Format", legacy frame: the only one Linux unpacks
        case .lzo: [[0x89, 0x4C, 0x5A, 0x4F, 0x00, 0x0D, 0x0A, 0x1A]]  // lzop
        }
    }

    /// The program that decompresses standard input to standard output, with its options; `nil` if Reforge itself
    /// decompresses the format.
    package var program: [String]? {
        switch self {
        case .zstd, .xz, .lzma: nil
        case .gzip: ["gzip", "-dc"]
        case .bzip2: ["bzip2", "-dc"]
        case .lz4: ["lz4", "-dc"]
        case .lzo: ["lzop", "-dc"]
        }
    }
}
