// SPDX-License-Identifier: GPL-3.0-or-later

/// The header of an entry of a "newc" cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst, Linux):
/// a magic number and 13 fields of 8 hexadecimal digits.
struct CPIOHeader: Equatable {
    /// The length of a header in bytes.
    static let byteCount = 110
    /// The longest name with its NUL in bytes: Linux's PATH_MAX.
    static let longestName = 4096

    /// The file's type and permissions, as in stat(2).
    var mode: UInt32
    /// The length of the contents in bytes.
    var contentByteCount: UInt64
    /// The length of the name with its NUL in bytes.
    var nameByteCount: Int

    var isRegularFile: Bool { mode & 0o170000 == 0o100000 }

    /// The NUL bytes after the name: header and name together fill multiples of 4.
    var namePadding: UInt64 { Self.padding(UInt64(Self.byteCount) + UInt64(nameByteCount)) }
    /// The NUL bytes after the contents.
    var contentPadding: UInt64 { Self.padding(contentByteCount) }

    private static func padding(_ byteCount: UInt64) -> UInt64 { (4 - byteCount % 4) % 4 }

    /// Whether bytes start with the magic number, without or with a checksum.
    static func isMagic(_ bytes: [UInt8]) -> Bool {
        bytes.starts(with: Array("070701".utf8)) || bytes.starts(with: Array("070702".utf8))
    }

    /// - Parameter bytes: `byteCount` bytes.
    init(_ bytes: [UInt8]) throws(BootFileError) {
        guard bytes.count == Self.byteCount, Self.isMagic(bytes) else {
            throw .damaged(what: "an entry of its archive has no valid header")
        }
        mode = try Self.field(1, of: bytes)
        contentByteCount = UInt64(try Self.field(6, of: bytes))
        let nameByteCount = try Self.field(11, of: bytes)
        guard (1...UInt32(Self.longestName)).contains(nameByteCount) else {
            throw .damaged(what: "the name of an entry has a length of \(nameByteCount) bytes")
        }
        self.nameByteCount = Int(nameByteCount)
    }

    /// A field by its index after the magic number.
    private static func field(_ index: Int, of bytes: [UInt8]) throws(BootFileError) -> UInt32 {
        var value: UInt32 = 0
        for byte in bytes[6 + index * 8..<14 + index * 8] {
            guard let digit = Character(UnicodeScalar(byte)).hexDigitValue else {
                throw .damaged(what: "a field of an entry's header is not hexadecimal")
            }
            value = value << 4 | UInt32(digit)
        }
        return value
    }
}
