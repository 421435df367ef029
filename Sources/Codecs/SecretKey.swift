// SPDX-License-Identifier: GPL-3.0-or-later
import Crypto
import CryptoExtras

/// A symmetric key of 256 bits. Its description contains no key bytes, so that no log or error can show them.
package struct SecretKey: Sendable, CustomStringConvertible, CustomReflectable {
    package static let byteCount = 32
    let key: SymmetricKey

    init(_ key: SymmetricKey) { self.key = key }

    /// A new random key.
    package static func random() -> SecretKey { SecretKey(SymmetricKey(size: .bits256)) }

    /// From 32 bytes; `nil` for another count.
    package init?(bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        key = SymmetricKey(data: bytes)
    }

    /// The 32 bytes, for wrapping.
    package var bytes: [UInt8] { key.withUnsafeBytes { Array($0) } }

    /// A key for a single purpose (HKDF-SHA-256, RFC 5869).
    package func derived(for purpose: String) -> SecretKey {
        SecretKey(
            HKDF<SHA256>.deriveKey(
                inputKeyMaterial: key, info: Array("reforge \(purpose)".utf8), outputByteCount: Self.byteCount))
    }

    /// A key from a password by scrypt (RFC 7914), which needs 128 · `blockSize` · `rounds` bytes of memory.
    package static func derived(
        fromPassword password: [UInt8], salt: [UInt8], rounds: Int, blockSize: Int, parallelism: Int
    ) throws(CodecError) -> SecretKey {
        do {
            return SecretKey(
                try KDF.Scrypt.deriveKey(
                    from: password, salt: salt, outputByteCount: byteCount, rounds: rounds, blockSize: blockSize,
                    parallelism: parallelism, maxMemory: 128 * rounds * blockSize * parallelism + (1 << 20)))
        } catch {
            throw CodecError("scrypt with \(rounds) rounds failed: not enough memory, or unsupported parameters")
        }
    }

    /// Contains no key bytes.
    package var description: String { "a key" }
    /// Contains no key bytes.
    package var customMirror: Mirror { Mirror(self, children: [:]) }
}
