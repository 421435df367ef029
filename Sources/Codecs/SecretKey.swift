// SPDX-License-Identifier: GPL-3.0-or-later
import Crypto
import CryptoExtras

/// A symmetric key of 256 bits. It prints as nothing, so that no log or error can show it.
package struct SecretKey: Sendable, CustomStringConvertible, CustomReflectable {
    /// Its length in bytes.
    package static let byteCount = 32
    let key: SymmetricKey

    init(_ key: SymmetricKey) { self.key = key }

    /// A new random key.
    package static func random() -> SecretKey { SecretKey(SymmetricKey(size: .bits256)) }

    /// From 32 bytes; `nil` for another number.
    package init?(bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        key = SymmetricKey(data: bytes)
    }

    /// The 32 bytes, for wrapping.
    package var bytes: [UInt8] { key.withUnsafeBytes { Array($0) } }

    /// A key for one purpose alone (HKDF-SHA-256, RFC 5869).
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
            throw CodecError("scrypt with \(rounds) rounds failed: not enough memory, or parameters it does not take")
        }
    }

    /// Nothing of the key.
    package var description: String { "a key" }
    /// Nothing of the key.
    package var customMirror: Mirror { Mirror(self, children: [:]) }
}
