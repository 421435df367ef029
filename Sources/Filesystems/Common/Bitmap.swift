// SPDX-License-Identifier: GPL-3.0-or-later

/// Allocation bitmaps: bit `i` is bit `i % 8` of byte `i / 8`; 1 means used.
enum Bitmap {
    /// Calls `body` with each run of set bits among the first `bitCount` bits from byte `offset` on, ascending.
    /// - Returns: the number of set bits; `nil` if `bytes` is too short.
    static func forEachRun(
        in bytes: [UInt8], at offset: Int, bitCount: Int, _ body: (Range<Int>) -> Void
    ) -> Int? {
        guard offset >= 0, bitCount >= 0, offset <= bytes.count, (bytes.count - offset) >= (bitCount + 7) / 8 else {
            return nil
        }
        var setCount = 0
        var runStart: Int?
        for base in stride(from: 0, to: bitCount, by: 64) {
            let valid = min(64, bitCount - base)
            let word = Self.word(of: bytes, at: offset + base / 8) & (valid == 64 ? .max : (1 << UInt64(valid)) - 1)
            setCount += word.nonzeroBitCount
            if word == (runStart == nil ? 0 : .max) { continue }
            var bit = 0
            while bit < 64 {
                let rest = word >> UInt64(bit)
                if let start = runStart {
                    let ones = (~rest).trailingZeroBitCount
                    guard bit + ones < 64 else { break }
                    body(start..<base + bit + ones)
                    runStart = nil
                    bit += ones
                } else {
                    let zeros = rest.trailingZeroBitCount
                    guard bit + zeros < 64 else { break }
                    runStart = base + bit + zeros
                    bit += zeros
                }
            }
        }
        if let start = runStart { body(start..<bitCount) }
        return setCount
    }

    /// The 64 bits from byte `index` on; bits past the end read as zero.
    private static func word(of bytes: [UInt8], at index: Int) -> UInt64 {
        guard index + 8 <= bytes.count else {
            return bytes[min(index, bytes.count)...].reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }
        // Safety: bounds were checked above, and every bit pattern is an integer.
        return unsafe bytes.withUnsafeBytes { buffer in
            unsafe UInt64(littleEndian: buffer.loadUnaligned(fromByteOffset: index, as: UInt64.self))
        }
    }
}
