// SPDX-License-Identifier: GPL-3.0-or-later
import Crypto
// FoundationEssentials: swift-crypto gives opened bytes as its Data.
import FoundationEssentials

/// Seals bytes with AES-256-GCM (NIST SP 800-38D) under one key: without the key they cannot be read, changed, or
/// passed off as other bytes.
///
/// Sealed bytes are nonce (12 random bytes), ciphertext, tag (16 bytes). Random nonces are safe for 2^32 seals a key.
package struct Sealer: Sendable {
    /// The difference in length between sealed and plain bytes.
    package static let overheadByteCount = 28
    private let key: SecretKey

    /// Seals under `key`.
    package init(key: SecretKey) { self.key = key }

    /// Seals all of `source` into `target`, which has room for `overheadByteCount` more.
    /// - Parameter context: identifies the bytes (format, kind, id); it is not stored and must
    ///   be the same to open them.
    /// - Returns: how many bytes of `target` were filled.
    package func seal(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer, context: [UInt8]
    ) throws(CodecError) -> Int {
        do {
            let box = try AES.GCM.seal(source, using: key.key, authenticating: context)
            guard let combined = box.combined, combined.count <= target.count else {
                throw CodecError("no room for sealed bytes")
            }
            combined.withUnsafeBytes { target.copyMemory(from: $0) }
            return combined.count
        } catch let error as CodecError {
            throw error
        } catch {
            throw CodecError("could not encrypt")
        }
    }

    /// Opens `source` into `target`, which has room for `overheadByteCount` less.
    /// - Returns: how many bytes of `target` were filled.
    /// - Throws: `CodecError` for another key, or if a bit of the bytes or the context differs.
    package func open(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer, context: [UInt8]
    ) throws(CodecError) -> Int {
        do {
            let box = try AES.GCM.SealedBox(combined: source)
            let plain = try AES.GCM.open(box, using: key.key, authenticating: context)
            guard plain.count <= target.count else { throw CodecError("sealed bytes are longer than declared") }
            plain.withUnsafeBytes { target.copyMemory(from: $0) }
            return plain.count
        } catch let error as CodecError {
            throw error
        } catch {
            throw CodecError("sealed bytes are damaged, or sealed with another key")
        }
    }

    /// Seals an array.
    package func seal(_ bytes: [UInt8], context: [UInt8]) throws(CodecError) -> [UInt8] {
        var target = [UInt8](repeating: 0, count: bytes.count + Self.overheadByteCount)
        let result = target.withUnsafeMutableBytes { target in
            bytes.withUnsafeBytes { source in
                Result { () throws(CodecError) in try seal(source, into: target, context: context) }
            }
        }
        _ = try result.get()
        return target
    }

    /// Opens an array.
    package func open(_ bytes: [UInt8], context: [UInt8]) throws(CodecError) -> [UInt8] {
        guard bytes.count >= Self.overheadByteCount else { throw CodecError("sealed bytes are cut off") }
        var target = [UInt8](repeating: 0, count: bytes.count - Self.overheadByteCount)
        let result = target.withUnsafeMutableBytes { target in
            bytes.withUnsafeBytes { source in
                Result { () throws(CodecError) in try open(source, into: target, context: context) }
            }
        }
        _ = try result.get()
        return target
    }
}
