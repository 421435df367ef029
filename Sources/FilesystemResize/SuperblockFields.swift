// SPDX-License-Identifier: GPL-3.0-or-later

/// Fields of a superblock by offset; 0 for offsets outside, which no valid length field holds.
struct SuperblockFields {
    let bytes: [UInt8]

    func little(_ offset: Int, byteCount: Int) -> UInt64 { value(bytes.dropFirst(offset).prefix(byteCount).reversed()) }
    func big(_ offset: Int, byteCount: Int) -> UInt64 { value(Array(bytes.dropFirst(offset).prefix(byteCount))) }
    func has(_ magic: some Sequence<UInt8>, at offset: Int) -> Bool { bytes.dropFirst(offset).starts(with: magic) }

    /// Sixteen bytes as a UUID: 8-4-4-4-12 hexadecimal digits, the form that the kernel and mkswap use.
    func uuid(_ offset: Int) -> String {
        let digits = bytes.dropFirst(offset).prefix(16).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
        return [0..<4, 4..<6, 6..<8, 8..<10, 10..<16].map { digits[$0.clamped(to: digits.indices)].joined() }
            .joined(separator: "-")
    }

    private func value(_ digits: [UInt8]) -> UInt64 { digits.reduce(0) { $0 << 8 | UInt64($1) } }
}

extension UInt64 {
    /// The product; `nil` on overflow.
    func times(_ other: UInt64) -> UInt64? {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? nil : product
    }
}
