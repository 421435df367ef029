// SPDX-License-Identifier: GPL-3.0-or-later

/// A Bloom filter over keys: "not here" is certain; "perhaps" is wrong for about 1 % of keys at ten bits a key.
struct IndexFilter: Sendable {
    static let bitsPerEntry: UInt64 = 10
    /// The optimal number of hashes at ten bits an entry.
    static let usualHashCount = 7
    private(set) var bytes: [UInt8]
    let hashCount: Int

    init(expectedEntryCount: UInt64) {
        let bits = max(64, min(expectedEntryCount, 1 << 40) * Self.bitsPerEntry)
        bytes = [UInt8](repeating: 0, count: Int((bits + 63) / 64 * 8))
        hashCount = Self.usualHashCount
    }

    /// From a file.
    init(bytes: [UInt8], hashCount: Int) {
        self.bytes = bytes
        self.hashCount = hashCount
    }

    // Ids are uniformly distributed: their bytes serve as hashes (Kirsch and Mitzenmacher: two hashes generate all
    // others).
    mutating func insert(_ key: BlobKey) {
        let bitCount = UInt64(bytes.count) * 8
        var hash = key.words.1
        let step = key.words.2 | 1
        for _ in 0..<hashCount {
            let bit = hash % bitCount
            bytes[Int(bit >> 3)] |= 1 << UInt8(truncatingIfNeeded: bit & 7)
            hash &+= step
        }
    }

    /// Whether the index may contain the key.
    func mayContain(_ key: BlobKey) -> Bool {
        let bitCount = UInt64(bytes.count) * 8
        guard bitCount > 0 else { return true }
        var hash = key.words.1
        let step = key.words.2 | 1
        for _ in 0..<hashCount {
            let bit = hash % bitCount
            if bytes[Int(bit >> 3)] & 1 << UInt8(truncatingIfNeeded: bit & 7) == 0 { return false }
            hash &+= step
        }
        return true
    }
}
