// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// A running checksum of a partclone image.
struct PartcloneDigest {
    private let kind: PartcloneHeader.Checksum
    private let blockSize: Int
    private var crc: UInt32 = .max
    private var xxh64 = XXHash64()
    private var xxh128 = XXHash3()

    init(_ header: PartcloneHeader) {
        kind = header.checksum
        blockSize = header.blockSize
    }

    /// Starts from the beginning.
    mutating func reset() {
        crc = .max
        xxh64 = XXHash64()
        xxh128 = XXHash3()
    }

    /// Appends whole blocks.
    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        switch kind {
        case .none: break
        case .crc32: crc = unsafe CRC32.iso.update(crc, bytes)
        case .xxh64: unsafe xxh64.update(bytes)
        case .xxh128: unsafe xxh128.update(bytes)
        case .firstByte:
            for place in stride(from: 0, to: bytes.count, by: blockSize) {
                crc = CRC32.iso.update(crc, repeating: unsafe bytes[place], count: blockSize)
            }
        }
    }

    /// The value as it is stored.
    var stored: [UInt8] {
        var bytes: [UInt8] = []
        switch kind {
        case .none: break
        case .crc32, .firstByte: bytes.appendLittleEndian(crc)
        case .xxh64: bytes.appendLittleEndian(xxh64.digest)
        case .xxh128:
            let digest = xxh128.digest
            bytes.appendLittleEndian(digest.low)
            bytes.appendLittleEndian(digest.high)
        }
        return bytes
    }
}
