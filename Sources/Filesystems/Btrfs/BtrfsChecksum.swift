// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The supported checksums of superblocks and tree blocks (`enum btrfs_csum_type`). SHA-256 (2) and BLAKE2b (3) are
/// not: a filesystem with them is taken whole.
enum BtrfsChecksum: UInt16 {
    case crc32c = 0
    case xxhash64 = 1

    /// The bytes at the start of a block that are reserved for its checksum (BTRFS_CSUM_SIZE).
    static let fieldByteCount = 32

    static func name(_ type: UInt16) -> String {
        switch type {
        case 0: "crc32c"
        case 1: "xxhash64"
        case 2: "sha256"
        case 3: "blake2b"
        default: "unknown"
        }
    }

    /// The expected field of a block: the checksum of everything behind the field, little-endian.
    func field(_ block: [UInt8]) -> [UInt8] {
        let covered = Array(block.dropFirst(Self.fieldByteCount))
        var result: [UInt8] = []
        switch self {
        case .crc32c: result.appendLittleEndian(CRC32.castagnoli.checksum(covered))
        case .xxhash64: result.appendLittleEndian(XXHash64.hash(covered))
        }
        return result
    }

    func isRight(_ block: [UInt8]) -> Bool { block.starts(with: field(block)) }
}
