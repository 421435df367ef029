// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs

/// What makes every changed bit of a part of a file seen: a seal in an encrypted repository, a checksum in another.
/// Both make the part longer by the same 28 bytes, and both take what the part is (file, place) into account, so that a
/// part of another file, or of another place in it, does not pass.
struct Protection: Sendable {
    let sealer: Sealer?

    /// The bytes as they are stored.
    func protect(_ bytes: [UInt8], context: [UInt8]) throws(CodecError) -> [UInt8] {
        if let sealer { return try sealer.seal(bytes, context: context) }
        let padded = bytes + [UInt8](repeating: 0, count: RepositoryFormat.protectionByteCount - 4)
        var result = padded
        result.reserveCapacity(padded.count + 4)
        result.appendLittleEndian(Self.checksum(padded, context))
        return result
    }

    /// What was protected.
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
