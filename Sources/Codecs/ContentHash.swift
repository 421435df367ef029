// SPDX-License-Identifier: GPL-3.0-or-later
import Crypto

/// A SHA-256 (FIPS 180-4).
package struct ContentHash: Hashable, Sendable, CustomStringConvertible {
    package static let byteCount = 32
    private let words: (UInt64, UInt64, UInt64, UInt64)

    /// The hash of bytes.
    package init(of bytes: UnsafeRawBufferPointer) {
        var hasher = SHA256()
        hasher.update(bufferPointer: bytes)
        self.init(hasher.finalize())
    }

    /// The hash of an array.
    package init(of bytes: [UInt8]) {
        self = bytes.withUnsafeBytes { ContentHash(of: $0) }
    }

    /// From 32 bytes; `nil` for another count.
    package init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        var words: [UInt64] = [0, 0, 0, 0]
        for (index, byte) in bytes.enumerated() { words[index / 8] |= UInt64(byte) << (UInt64(index % 8) * 8) }
        self.words = (words[0], words[1], words[2], words[3])
    }

    /// From 64 hexadecimal digits; `nil` for anything else.
    package init?(hexadecimal text: String) {
        let digits = Array(text.utf8)
        guard digits.count == 64 else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: 64, by: 2) {
            guard let byte = UInt8(String(decoding: digits[index..<index + 2], as: UTF8.self), radix: 16) else {
                return nil
            }
            bytes.append(byte)
        }
        self.init(bytes: bytes)
    }

    private init(_ digest: SHA256.Digest) { self = digest.withUnsafeBytes { ContentHash(digest: $0) } }

    /// From the 32 bytes of a digest.
    init(digest bytes: UnsafeRawBufferPointer) {
        words = (
            bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self),
            bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self),
            bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self),
            bytes.loadUnaligned(fromByteOffset: 24, as: UInt64.self)
        )
    }

    /// An incremental hash.
    package struct Running: Sendable {
        private var hasher = SHA256()
        package init() {}
        /// Adds bytes.
        package mutating func update(_ bytes: [UInt8]) {
            bytes.withUnsafeBytes { hasher.update(bufferPointer: $0) }
        }
        /// Adds the 32 bytes of a hash.
        package mutating func update(_ hash: ContentHash) {
            withUnsafeBytes(of: hash.words) { hasher.update(bufferPointer: $0) }
        }
        /// The hash of all bytes added.
        package func finish() -> ContentHash { ContentHash(hasher.finalize()) }
    }

    /// The 32 bytes.
    package var bytes: [UInt8] {
        [words.0, words.1, words.2, words.3].flatMap { word in
            (0..<8).map { UInt8(truncatingIfNeeded: word >> (UInt64($0) * 8)) }
        }
    }

    /// 64 hexadecimal digits.
    package var description: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// Whether both are the same bytes.
    package static func == (a: ContentHash, b: ContentHash) -> Bool { a.words == b.words }

    /// Uses the first bytes: they are as good as random.
    package func hash(into hasher: inout Hasher) { hasher.combine(words.0) }
}
