// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The name of a pack or of an index file: 128 random bits, 32 hexadecimal digits.
struct StoreName: Hashable, Comparable, Sendable, CustomStringConvertible {
    static let byteCount = 16
    let high: UInt64
    let low: UInt64

    static func random() -> StoreName {
        var generator = SystemRandomNumberGenerator()
        return StoreName(high: generator.next(), low: generator.next())
    }

    init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// From 16 bytes at `offset`.
    init(_ bytes: [UInt8], at offset: Int) throws(ParsingError) {
        high = try bytes.bigEndian(at: offset)
        low = try bytes.bigEndian(at: offset + 8)
    }

    /// From 32 lower-case hexadecimal digits, as in file names; `nil` for anything else.
    init?(_ text: String) {
        guard text.utf8.count == 32,
            text.utf8.allSatisfy({ ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x66) }),
            let high = UInt64(text.prefix(16), radix: 16), let low = UInt64(text.suffix(16), radix: 16)
        else { return nil }
        self.high = high
        self.low = low
    }

    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendLittleEndian(high.byteSwapped)
        bytes.appendLittleEndian(low.byteSwapped)
        return bytes
    }

    var description: String {
        [high, low].map { word in
            let digits = String(word, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }

    static func < (a: StoreName, b: StoreName) -> Bool { a.high != b.high ? a.high < b.high : a.low < b.low }
}
