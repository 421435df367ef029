// SPDX-License-Identifier: GPL-3.0-or-later

/// XXH64 with the seed 0 (xxHash fast digest algorithm, specification 0.1.1, §"XXH64 algorithm"): Btrfs, partclone.
package struct XXHash64 {
    private static let prime1: UInt64 = 0x9E37_79B1_85EB_CA87
    private static let prime2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
    private static let prime3: UInt64 = 0x1656_67B1_9E37_79F9
    private static let prime4: UInt64 = 0x85EB_CA77_C2B2_AE63
    private static let prime5: UInt64 = 0x27D4_EB2F_1656_67C5
    private static let stripeByteCount = 32

    private var lanes = (prime1 &+ prime2, prime2, 0 as UInt64, 0 &- prime1)
    private var byteCount: UInt64 = 0
    /// Less than a stripe.
    private var pending: [UInt8] = []

    package init() {}

    /// The hash of `bytes`.
    package static func hash(_ bytes: [UInt8]) -> UInt64 {
        var running = XXHash64()
        unsafe bytes.withUnsafeBytes { unsafe running.update($0) }
        return running.digest
    }

    /// Appends to the input.
    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        byteCount &+= UInt64(bytes.count)
        var place = 0
        if !pending.isEmpty {
            place = min(Self.stripeByteCount - pending.count, bytes.count)
            unsafe pending.append(contentsOf: bytes[..<place])
            guard pending.count == Self.stripeByteCount else { return }
            unsafe pending.withUnsafeBytes { unsafe process($0) }
            pending = []
        }
        let end = bytes.count - (bytes.count - place) % Self.stripeByteCount
        unsafe process(UnsafeRawBufferPointer(rebasing: bytes[place..<end]))
        unsafe pending.append(contentsOf: bytes[end...])
    }

    /// Processes whole stripes.
    private mutating func process(_ bytes: UnsafeRawBufferPointer) {
        var lanes = self.lanes
        for place in stride(from: 0, to: bytes.count, by: Self.stripeByteCount) {
            // Safety: `bytes` has whole stripes; every bit pattern is an integer.
            func word(_ index: Int) -> UInt64 {
                unsafe UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: place + 8 * index, as: UInt64.self))
            }
            lanes.0 = Self.round(lanes.0, word(0))
            lanes.1 = Self.round(lanes.1, word(1))
            lanes.2 = Self.round(lanes.2, word(2))
            lanes.3 = Self.round(lanes.3, word(3))
        }
        self.lanes = lanes
    }

    /// The hash of the input so far.
    package var digest: UInt64 {
        var result: UInt64 = Self.prime5
        if byteCount >= UInt64(Self.stripeByteCount) {
            result =
                Self.rotated(lanes.0, 1) &+ Self.rotated(lanes.1, 7) &+ Self.rotated(lanes.2, 12)
                &+ Self.rotated(lanes.3, 18)
            for lane in [lanes.0, lanes.1, lanes.2, lanes.3] {
                result = (result ^ Self.round(0, lane)) &* Self.prime1 &+ Self.prime4
            }
        }
        result &+= byteCount
        var rest = pending[...]
        while rest.count >= 8 {
            let word = rest.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            result = Self.rotated(result ^ Self.round(0, word), 27) &* Self.prime1 &+ Self.prime4
            rest = rest.dropFirst(8)
        }
        if rest.count >= 4 {
            let half = rest.prefix(4).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            result = Self.rotated(result ^ half &* Self.prime1, 23) &* Self.prime2 &+ Self.prime3
            rest = rest.dropFirst(4)
        }
        for byte in rest { result = Self.rotated(result ^ UInt64(byte) &* Self.prime5, 11) &* Self.prime1 }
        result = (result ^ result >> 33) &* Self.prime2
        result = (result ^ result >> 29) &* Self.prime3
        return result ^ result >> 32
    }

    private static func round(_ lane: UInt64, _ word: UInt64) -> UInt64 {
        rotated(lane &+ word &* prime2, 31) &* prime1
    }

    private static func rotated(_ value: UInt64, _ count: UInt64) -> UInt64 { value << count | value >> (64 - count) }
}
