// SPDX-License-Identifier: GPL-3.0-or-later

/// The two reflected 32-bit CRCs that on-disk formats use.
public struct CRC32: Sendable {
    /// CRC-32 of ISO 3309 (polynomial 0x04C11DB7): GPT, our journal.
    public static let iso = CRC32(reflectedPolynomial: 0xEDB8_8320)
    /// CRC-32C, Castagnoli (polynomial 0x1EDC6F41): ext4, Btrfs, XFS.
    public static let castagnoli = CRC32(reflectedPolynomial: 0x82F6_3B78)

    private let table: [UInt32]

    private init(reflectedPolynomial: UInt32) {
        table = (0..<256).map { index in
            (0..<8).reduce(UInt32(index)) { value, _ in
                value & 1 == 1 ? value >> 1 ^ reflectedPolynomial : value >> 1
            }
        }
    }

    /// The checksum of `bytes`, with the usual inversion before and after.
    public func checksum(_ bytes: some Sequence<UInt8>) -> UInt32 { ~update(.max, bytes) }

    /// One step without any inversion: for formats that chain a seed (ext4).
    public func update(_ value: UInt32, _ bytes: some Sequence<UInt8>) -> UInt32 {
        let table = self.table
        return bytes.reduce(value) { $0 >> 8 ^ table[Int(UInt8(truncatingIfNeeded: $0) ^ $1)] }
    }
}
