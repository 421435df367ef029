// SPDX-License-Identifier: GPL-3.0-or-later
import Crypto

/// The naming of contents: by SHA-256, or by HMAC-SHA-256 (RFC 2104) under a key where names must
/// not reveal their contents.
package enum ChunkIdentity: Sendable {
    /// SHA-256 (FIPS 180-4).
    case plain
    /// HMAC-SHA-256 under the id key of a repository.
    case keyed(SecretKey)

    /// The name of a content.
    package func id(of content: UnsafeRawBufferPointer) -> ContentHash {
        switch self {
        case .plain: return ContentHash(of: content)
        case .keyed(let key):
            var code = HMAC<SHA256>(key: key.key)
            code.update(data: content)
            return code.finalize().withUnsafeBytes { ContentHash(digest: $0) }
        }
    }

    /// The name of an array.
    package func id(of content: [UInt8]) -> ContentHash { content.withUnsafeBytes { id(of: $0) } }
}
