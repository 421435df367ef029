// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import SystemPackage

/// The constants of an .img.xz and the metadata beside it; ImageFormat.md is the specification.
package enum XZImageFormat {
    static let tieTag = Array("RFXZ".utf8)
    /// The payload of the frame that ties the metadata to the archive, in bytes.
    static let tieByteCount = 64
    /// The zeros of one block of a run; the last block of a run is shorter.
    ///
    /// LZMA needs 2.5 KB for them. Larger blocks would save nothing, and slow down readers of single blocks (nbdkit).
    static let zeroBlockContent: UInt64 = 16 << 20
    /// The longest block of zeros as stored, in bytes; liblzma's is 2.6 KB.
    static let longestZeroBlock = 64 << 10
    /// The longest run: the length of its blocks must fit into 32 bits.
    static let longestRun: UInt64 = 1 << 40

    /// The path of an archive's metadata.
    package static func metadataPath(of archive: FilePath) -> FilePath { FilePath(archive.string + ".reforge") }
}

/// The tie between the metadata and the archive.
struct XZImageTie: Equatable {
    /// The length of the archive in bytes.
    var archiveByteCount: UInt64
    /// The offset at which its blocks end and its index starts.
    var indexOffset: UInt64
    /// SHA-256 of its stream header and all from its index on.
    var framingHash: ContentHash

    init(archiveByteCount: UInt64, indexOffset: UInt64, framingHash: ContentHash) {
        self.archiveByteCount = archiveByteCount
        self.indexOffset = indexOffset
        self.framingHash = framingHash
    }

    /// The 64 bytes of the payload.
    var payload: [UInt8] {
        var bytes = XZImageFormat.tieTag + [0, 0, 0, 0]
        bytes.appendLittleEndian(archiveByteCount)
        bytes.appendLittleEndian(indexOffset)
        bytes += framingHash.bytes + [0, 0, 0, 0]
        bytes.appendLittleEndian(CRC32.iso.checksum(bytes))
        return bytes
    }

    /// Decodes a payload.
    init(payload bytes: [UInt8]) throws(ParsingError) {
        guard bytes.count == XZImageFormat.tieByteCount, Array(bytes[0..<4]) == XZImageFormat.tieTag,
            try bytes.littleEndian(UInt32.self, at: 60) == CRC32.iso.checksum(Array(bytes[0..<60])),
            let hash = ContentHash(bytes: bytes[24..<56])
        else { throw .invalid(what: "the archive's length and checksum") }
        archiveByteCount = try bytes.littleEndian(at: 8)
        indexOffset = try bytes.littleEndian(at: 16)
        framingHash = hash
        // The index and the footer of a stream take at least 20 bytes.
        guard indexOffset >= 12, archiveByteCount <= UInt64(Int64.max), indexOffset <= archiveByteCount,
            archiveByteCount - indexOffset >= 20
        else { throw .invalid(what: "the archive's length") }
    }
}
