// SPDX-License-Identifier: GPL-3.0-or-later

/// A zstd frame whose content is zeros: RLE blocks under a window of 128 KiB, which take 32 KiB per GiB.
///
/// A single-segment frame of 1 GiB would be smaller, but decoders refuse it for its memory.
package enum ZeroFrame {
    /// The most zeros in one of these frames, in bytes; longer runs take several frames.
    package static let largestContent: UInt64 = 1 << 30
    /// The largest block (RFC 8878 §3.1.1.2.4: at most 128 KiB, and at most the window).
    private static let blockByteCount: UInt64 = 128 << 10

    /// The frame of `byteCount` zeros (1 to `largestContent`).
    package static func bytes(zeros byteCount: UInt64) -> [UInt8] {
        // Magic number, §3.1.1; frame header descriptor, §3.1.1.1.1: content size in 8 bytes (flag 3), no single
        // segment, no checksum, no dictionary; window descriptor, §3.1.1.1.2: exponent 7, mantissa 0: 2^17 bytes.
        var frame: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD, 0b1100_0000, 7 << 3]
        for shift in 0..<8 { frame.append(UInt8(truncatingIfNeeded: byteCount >> (UInt64(shift) * 8))) }
        frame.reserveCapacity(frame.count + Int(byteCount / blockByteCount + 1) * 4)
        var rest = byteCount
        repeat {
            let count = min(rest, blockByteCount)
            rest -= count
            // Block header, §3.1.1.2: last-block bit, type 1 (RLE), 21 bits of regenerated size; then the one byte.
            let header = (rest == 0 ? 1 : 0) | 1 << 1 | UInt32(count) << 3
            frame += [
                UInt8(truncatingIfNeeded: header), UInt8(truncatingIfNeeded: header >> 8),
                UInt8(truncatingIfNeeded: header >> 16), 0,
            ]
        } while rest > 0
        return frame
    }

    /// The length of that frame in bytes, computed without building it.
    package static func frameByteCount(zeros byteCount: UInt64) -> Int {
        14 + Int((max(byteCount, 1) + blockByteCount - 1) / blockByteCount) * 4
    }
}
