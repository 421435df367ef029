// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs

/// Detects every changed bit of a part of a file: by a seal in an encrypted repository, by a checksum otherwise. Both
/// add 28 bytes, and both cover the context (file, place), so that a part of another file, or of another place in the
/// same file, is rejected.
struct Protection: Sendable {
    let sealer: Sealer?

    /// Returns the stored form of `bytes`.
    func protect(_ bytes: [UInt8], context: [UInt8]) throws(CodecError) -> [UInt8] {
        if let sealer { return try sealer.seal(bytes, context: context) }
        let padded = bytes + [UInt8](repeating: 0, count: RepositoryFormat.protectionByteCount - 4)
        var result = padded
        result.reserveCapacity(padded.count + 4)
        result.appendLittleEndian(Self.checksum(padded, context))
        return result
    }

    /// Verifies stored bytes and returns the protected ones.
    func open(_ stored: [UInt8], context: [UInt8]) throws(CodecError) -> [UInt8] {
        guard stored.count >= RepositoryFormat.protectionByteCount else { throw CodecError("it is cut off") }
        if let sealer { return try sealer.open(stored, context: context) }
        let padded = Array(stored.dropLast(4))
        guard (try? stored.littleEndian(UInt32.self, at: padded.count)) == Self.checksum(padded, context) else {
            throw CodecError("its checksum does not match")
        }
        return Array(padded.dropLast(RepositoryFormat.protectionByteCount - 4))
    }

    private static func checksum(_ bytes: [UInt8], _ context: [UInt8]) -> UInt32 {
        ~CRC32.iso.update(CRC32.iso.update(.max, context), bytes)
    }
}
