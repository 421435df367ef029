// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The checksums of ext4 (kernel documentation, "Checksums" §2.7): chained, never inverted.
enum ExtChecksum {
    static func crc32c(_ seed: UInt32, _ bytes: [UInt8]) -> UInt32 { CRC32.castagnoli.update(seed, bytes) }

    /// CRC-16 (polynomial 0x8005, reflected): group descriptors under uninit_bg.
    static func crc16(_ seed: UInt16, _ bytes: some Sequence<UInt8>) -> UInt16 {
        bytes.reduce(seed) { $0 >> 8 ^ crc16Table[Int(UInt8(truncatingIfNeeded: $0) ^ $1)] }
    }

    private static let crc16Table: [UInt16] = (0..<256).map { index in
        (0..<8).reduce(UInt16(index)) { value, _ in value & 1 == 1 ? value >> 1 ^ 0xA001 : value >> 1 }
    }
}
