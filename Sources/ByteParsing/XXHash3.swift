// SPDX-License-Identifier: GPL-3.0-or-later

/// XXH3 with 128 bits, the seed 0 and the default secret (xxHash fast digest algorithm, specification 0.2.0, §"XXH3"):
/// partclone since 2026.
package struct XXHash3 {
    /// A digest: its low half comes first in the files of partclone.
    package struct Digest: Equatable, Sendable {
        package var low: UInt64
        package var high: UInt64

        package init(low: UInt64, high: UInt64) {
            self.low = low
            self.high = high
        }
    }

    private static let prime1: UInt64 = 0x9E37_79B1_85EB_CA87
    private static let prime2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
    private static let prime3: UInt64 = 0x1656_67B1_9E37_79F9
    private static let prime4: UInt64 = 0x85EB_CA77_C2B2_AE63
    private static let prime5: UInt64 = 0x27D4_EB2F_1656_67C5
    private static let narrow1: UInt64 = 0x9E37_79B1
    private static let narrow2: UInt64 = 0x85EB_CA77
    private static let narrow3: UInt64 = 0xC2B2_AE3D

    private static let stripeByteCount = 64
    /// Stripes between two scrambles: (length of the secret − a stripe) / 8.
    private static let stripesInBlock = 16
    /// The longest input with a formula of its own, in bytes.
    private static let longestShort = 240

    private var lanes = SIMD8<UInt64>(narrow3, prime1, prime2, prime3, prime4, narrow2, prime5, narrow1)
    private var stripesDone = 0
    private var byteCount: UInt64 = 0
    /// Bytes not yet processed: the whole input up to `longestShort`, then the last 1 to 64 bytes.
    private var pending: [UInt8] = []
    /// The last processed stripe: the final one may begin in it.
    private var lastStripe: [UInt8] = []

    package init() {}

    /// The digest of `bytes`.
    package static func hash(_ bytes: [UInt8]) -> Digest {
        var running = XXHash3()
        unsafe bytes.withUnsafeBytes { unsafe running.update($0) }
        return running.digest
    }

    /// Appends to the input.
    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        byteCount &+= UInt64(bytes.count)
        if byteCount <= UInt64(Self.longestShort) {
            unsafe pending.append(contentsOf: bytes)
            return
        }
        var place = 0
        // A stripe is processed only once another byte follows it. First those that begin in the pending bytes.
        while !pending.isEmpty, pending.count + bytes.count - place > Self.stripeByteCount {
            let missing = max(0, Self.stripeByteCount - pending.count)
            unsafe pending.append(contentsOf: bytes[place..<place + missing])
            place += missing
            unsafe pending.withUnsafeBytes { unsafe process(UnsafeRawBufferPointer(rebasing: $0[..<64]), count: 1) }
            lastStripe = Array(pending[..<Self.stripeByteCount])
            pending.removeFirst(Self.stripeByteCount)
        }
        let left = bytes.count - place
        if pending.isEmpty, left > Self.stripeByteCount {
            let count = (left - 1) / Self.stripeByteCount
            unsafe process(UnsafeRawBufferPointer(rebasing: bytes[place...]), count: count)
            place += count * Self.stripeByteCount
            lastStripe = unsafe Array(bytes[place - Self.stripeByteCount..<place])
        }
        unsafe pending.append(contentsOf: bytes[place...])
    }

    /// The digest of the input so far.
    package var digest: Digest {
        if byteCount <= UInt64(Self.longestShort) {
            return unsafe pending.withUnsafeBytes { unsafe Self.short(Words($0)) }
        }
        var copy = self
        // The last stripe ends where the input ends, and has its own part of the secret.
        let final = lastStripe.suffix(Self.stripeByteCount - pending.count) + pending
        unsafe Array(final).withUnsafeBytes { unsafe copy.lanes = Self.accumulated(copy.lanes, $0.baseAddress, 121) }
        return Digest(
            low: copy.merged(11, byteCount &* Self.prime1), high: copy.merged(117, ~(byteCount &* Self.prime2)))
    }

    private mutating func process(_ bytes: UnsafeRawBufferPointer, count: Int) {
        var lanes = self.lanes
        for index in 0..<count {
            let stripe = unsafe bytes.baseAddress.map { unsafe $0 + index * Self.stripeByteCount }
            lanes = unsafe Self.accumulated(lanes, stripe, 8 * stripesDone)
            stripesDone += 1
            if stripesDone == Self.stripesInBlock {
                stripesDone = 0
                lanes = (lanes ^ lanes &>> 47 ^ Self.secretStripe(128)) &* SIMD8(repeating: Self.narrow1)
            }
        }
        self.lanes = lanes
    }

    private static func accumulated(
        _ lanes: SIMD8<UInt64>, _ stripe: UnsafeRawPointer?, _ secretOffset: Int
    ) -> SIMD8<UInt64> {
        guard let stripe = unsafe stripe else { return lanes }
        // Safety: a stripe has 64 bytes.
        let value = unsafe stripe.loadUnaligned(as: SIMD8<UInt64>.self)
        let key = value ^ secretStripe(secretOffset)
        var swapped = value
        swapped.evenHalf = value.oddHalf
        swapped.oddHalf = value.evenHalf
        return lanes &+ swapped &+ (key & SIMD8(repeating: 0xFFFF_FFFF)) &* (key &>> 32)
    }

    private func merged(_ secretOffset: Int, _ start: UInt64) -> UInt64 {
        var result = start
        for pair in 0..<4 {
            result &+= Self.folded(
                lanes[2 * pair] ^ Self.secretWord(secretOffset + 16 * pair),
                lanes[2 * pair + 1] ^ Self.secretWord(secretOffset + 16 * pair + 8))
        }
        return Self.avalanche(result)
    }
}

extension XXHash3 {
    /// Little-endian words of a short input.
    @safe private struct Words {
        let bytes: UnsafeRawBufferPointer
        init(_ bytes: UnsafeRawBufferPointer) { unsafe self.bytes = unsafe bytes }
        var count: Int { unsafe bytes.count }
        func byte(_ place: Int) -> UInt32 { UInt32(unsafe bytes[place]) }
        func half(_ place: Int) -> UInt32 {
            unsafe UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self))
        }
        func word(_ place: Int) -> UInt64 {
            unsafe UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: place, as: UInt64.self))
        }
    }

    private static func short(_ input: Words) -> Digest {
        switch input.count {
        case 0:
            Digest(
                low: avalanche64(secretWord(64) ^ secretWord(72)), high: avalanche64(secretWord(80) ^ secretWord(88)))
        case 1...3: tiny(input)
        case 4...8: small(input)
        case 9...16: medium(input)
        default: long(input)
        }
    }

    private static func tiny(_ input: Words) -> Digest {
        let count = input.count
        let low = input.byte(0) << 16 | input.byte(count >> 1) << 24 | input.byte(count - 1) | UInt32(count) << 8
        let turned = low.byteSwapped
        let high = turned << 13 | turned >> 19
        return Digest(
            low: avalanche64(UInt64(low) ^ (secretWord(0) ^ secretWord(0) >> 32) & 0xFFFF_FFFF),
            high: avalanche64(UInt64(high) ^ (secretWord(8) ^ secretWord(8) >> 32) & 0xFFFF_FFFF))
    }

    private static func small(_ input: Words) -> Digest {
        let value = UInt64(input.half(0)) | UInt64(input.half(input.count - 4)) << 32
        let keyed = value ^ secretWord(16) ^ secretWord(24)
        var (high, low) = keyed.multipliedFullWidth(by: prime1 &+ UInt64(input.count) << 2)
        high &+= low << 1
        low ^= high >> 3
        low = (low ^ low >> 35) &* 0x9FB2_1C65_1E98_DF25
        return Digest(low: low ^ low >> 28, high: avalanche(high))
    }

    private static func medium(_ input: Words) -> Digest {
        let first = input.word(0)
        var last = input.word(input.count - 8)
        var (high, low) = (first ^ last ^ secretWord(32) ^ secretWord(40)).multipliedFullWidth(by: prime1)
        low &+= UInt64(input.count - 1) << 54
        last ^= secretWord(48) ^ secretWord(56)
        high &+= last &+ (last & 0xFFFF_FFFF) &* (narrow2 - 1)
        low ^= high.byteSwapped
        let product = low.multipliedFullWidth(by: prime2)
        return Digest(low: avalanche(product.low), high: avalanche(product.high &+ high &* prime2))
    }

    /// 17 to 240 bytes.
    private static func long(_ input: Words) -> Digest {
        let count = input.count
        var sum = Digest(low: UInt64(count) &* prime1, high: 0)
        func mix(_ first: Int, _ second: Int, _ secret: Int) {
            sum.low &+= folded(
                input.word(first) ^ secretWord(secret), input.word(first + 8) ^ secretWord(secret + 8))
            sum.low ^= input.word(second) &+ input.word(second + 8)
            sum.high &+= folded(
                input.word(second) ^ secretWord(secret + 16), input.word(second + 8) ^ secretWord(secret + 24))
            sum.high ^= input.word(first) &+ input.word(first + 8)
        }
        if count <= 128 {
            for step in stride(from: (count - 1) / 32, through: 0, by: -1) {
                mix(16 * step, count - 16 * (step + 1), 32 * step)
            }
        } else {
            for end in stride(from: 32, to: 160, by: 32) { mix(end - 32, end - 16, end - 32) }
            sum = Digest(low: avalanche(sum.low), high: avalanche(sum.high))
            for end in stride(from: 160, through: count, by: 32) { mix(end - 32, end - 16, 3 + end - 160) }
            mix(count - 16, count - 32, 103)
        }
        let low = sum.low &+ sum.high
        let high = sum.low &* prime1 &+ sum.high &* prime4 &+ UInt64(count) &* prime2
        return Digest(low: avalanche(low), high: 0 &- avalanche(high))
    }

    private static func folded(_ first: UInt64, _ second: UInt64) -> UInt64 {
        let product = first.multipliedFullWidth(by: second)
        return product.low ^ product.high
    }

    private static func avalanche(_ value: UInt64) -> UInt64 {
        let mixed = (value ^ value >> 37) &* 0x1656_6791_9E37_79F9
        return mixed ^ mixed >> 32
    }

    /// The final mix of XXH64.
    private static func avalanche64(_ value: UInt64) -> UInt64 {
        var mixed = (value ^ value >> 33) &* prime2
        mixed = (mixed ^ mixed >> 29) &* prime3
        return mixed ^ mixed >> 32
    }

    private static func secretWord(_ offset: Int) -> UInt64 {
        // Safety: the offsets above end inside the secret.
        unsafe secret.withUnsafeBytes {
            unsafe UInt64(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        }
    }

    private static func secretStripe(_ offset: Int) -> SIMD8<UInt64> {
        // Safety: the offsets above end inside the secret.
        unsafe secret.withUnsafeBytes { unsafe $0.loadUnaligned(fromByteOffset: offset, as: SIMD8<UInt64>.self) }
    }

    /// The default secret (§"Secret derivation"): 192 bytes.
    private static let secret: [UInt8] = [
        0xB8, 0xFE, 0x6C, 0x39, 0x23, 0xA4, 0x4B, 0xBE, 0x7C, 0x01, 0x81, 0x2C, 0xF7, 0x21, 0xAD, 0x1C,
        0xDE, 0xD4, 0x6D, 0xE9, 0x83, 0x90, 0x97, 0xDB, 0x72, 0x40, 0xA4, 0xA4, 0xB7, 0xB3, 0x67, 0x1F,
        0xCB, 0x79, 0xE6, 0x4E, 0xCC, 0xC0, 0xE5, 0x78, 0x82, 0x5A, 0xD0, 0x7D, 0xCC, 0xFF, 0x72, 0x21,
        0xB8, 0x08, 0x46, 0x74, 0xF7, 0x43, 0x24, 0x8E, 0xE0, 0x35, 0x90, 0xE6, 0x81, 0x3A, 0x26, 0x4C,
        0x3C, 0x28, 0x52, 0xBB, 0x91, 0xC3, 0x00, 0xCB, 0x88, 0xD0, 0x65, 0x8B, 0x1B, 0x53, 0x2E, 0xA3,
        0x71, 0x64, 0x48, 0x97, 0xA2, 0x0D, 0xF9, 0x4E, 0x38, 0x19, 0xEF, 0x46, 0xA9, 0xDE, 0xAC, 0xD8,
        0xA8, 0xFA, 0x76, 0x3F, 0xE3, 0x9C, 0x34, 0x3F, 0xF9, 0xDC, 0xBB, 0xC7, 0xC7, 0x0B, 0x4F, 0x1D,
        0x8A, 0x51, 0xE0, 0x4B, 0xCD, 0xB4, 0x59, 0x31, 0xC8, 0x9F, 0x7E, 0xC9, 0xD9, 0x78, 0x73, 0x64,
        0xEA, 0xC5, 0xAC, 0x83, 0x34, 0xD3, 0xEB, 0xC3, 0xC5, 0x81, 0xA0, 0xFF, 0xFA, 0x13, 0x63, 0xEB,
        0x17, 0x0D, 0xDD, 0x51, 0xB7, 0xF0, 0xDA, 0x49, 0xD3, 0x16, 0x55, 0x26, 0x29, 0xD4, 0x68, 0x9E,
        0x2B, 0x16, 0xBE, 0x58, 0x7D, 0x47, 0xA1, 0xFC, 0x8F, 0xF8, 0xB8, 0xD1, 0x7A, 0xD0, 0x31, 0xCE,
        0x45, 0xCB, 0x3A, 0x8F, 0x95, 0x16, 0x04, 0x28, 0xAF, 0xD7, 0xFB, 0xCA, 0xBB, 0x4B, 0x40, 0x7E,
    ]
}
