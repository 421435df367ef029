// SPDX-License-Identifier: GPL-3.0-or-later

/// XXH64 with the seed 0 (xxHash fast digest algorithm, specification 0.1.1, §"XXH64 algorithm"): Btrfs.
package enum XXHash64 {
    private static let prime1: UInt64 = 0x9E37_79B1_85EB_CA87
    private static let prime2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
    private static let prime3: UInt64 = 0x1656_67B1_9E37_79F9
    private static let prime4: UInt64 = 0x85EB_CA77_C2B2_AE63
    private static let prime5: UInt64 = 0x27D4_EB2F_1656_67C5

    /// The hash of `bytes`.
    package static func hash(_ bytes: [UInt8]) -> UInt64 {
        // Safety: every load ends at or before the end of the buffer; every bit pattern is an integer.
        unsafe bytes.withUnsafeBytes { buffer in
            var place = 0
            func word() -> UInt64 {
                let value = unsafe UInt64(littleEndian: buffer.loadUnaligned(fromByteOffset: place, as: UInt64.self))
                place += 8
                return value
            }
            var result: UInt64
            if buffer.count >= 32 {
                var lanes = (prime1 &+ prime2, prime2, 0 as UInt64, 0 &- prime1)
                while buffer.count - place >= 32 {
                    lanes.0 = round(lanes.0, word())
                    lanes.1 = round(lanes.1, word())
                    lanes.2 = round(lanes.2, word())
                    lanes.3 = round(lanes.3, word())
                }
                result = rotated(lanes.0, 1) &+ rotated(lanes.1, 7) &+ rotated(lanes.2, 12) &+ rotated(lanes.3, 18)
                for lane in [lanes.0, lanes.1, lanes.2, lanes.3] {
                    result = (result ^ round(0, lane)) &* prime1 &+ prime4
                }
            } else {
                result = prime5
            }
            result &+= UInt64(buffer.count)
            while buffer.count - place >= 8 {
                result = rotated(result ^ round(0, word()), 27) &* prime1 &+ prime4
            }
            if buffer.count - place >= 4 {
                let half = unsafe UInt32(littleEndian: buffer.loadUnaligned(fromByteOffset: place, as: UInt32.self))
                place += 4
                result = rotated(result ^ UInt64(half) &* prime1, 23) &* prime2 &+ prime3
            }
            while place < buffer.count {
                result = rotated(result ^ UInt64(unsafe buffer[place]) &* prime5, 11) &* prime1
                place += 1
            }
            result = (result ^ result >> 33) &* prime2
            result = (result ^ result >> 29) &* prime3
            return result ^ result >> 32
        }
    }

    private static func round(_ lane: UInt64, _ word: UInt64) -> UInt64 {
        rotated(lane &+ word &* prime2, 31) &* prime1
    }

    private static func rotated(_ value: UInt64, _ count: UInt64) -> UInt64 { value << count | value >> (64 - count) }
}
