// SPDX-License-Identifier: GPL-3.0-or-later

/// Fields of a superblock by their place; 0 where they lie outside, which no length field that makes sense holds.
struct SuperblockFields {
    let bytes: [UInt8]

    func little(_ offset: Int, byteCount: Int) -> UInt64 { value(bytes.dropFirst(offset).prefix(byteCount).reversed()) }
    func big(_ offset: Int, byteCount: Int) -> UInt64 { value(Array(bytes.dropFirst(offset).prefix(byteCount))) }
    func has(_ magic: some Sequence<UInt8>, at offset: Int) -> Bool { bytes.dropFirst(offset).starts(with: magic) }

    /// Sixteen bytes as a UUID: 8-4-4-4-12 hexadecimal digits, as the kernel spells it and mkswap wants it.
    func uuid(_ offset: Int) -> String {
        let digits = bytes.dropFirst(offset).prefix(16).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
        return [0..<4, 4..<6, 6..<8, 8..<10, 10..<16].map { digits[$0.clamped(to: digits.indices)].joined() }
            .joined(separator: "-")
    }

    private func value(_ digits: [UInt8]) -> UInt64 { digits.reduce(0) { $0 << 8 | UInt64($1) } }
}

extension UInt64 {
    /// The product; `nil` where it does not fit.
    func times(_ other: UInt64) -> UInt64? {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? nil : product
    }
}
