// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel

/// Where a capture goes: an image, or a repository.
package protocol ImageWriter: AnyObject, Sendable {
    /// How its chunks are named, compressed and sealed.
    var coding: ChunkCoding { get }

    /// Whether a content with this name is stored already, so that it need not be compressed. From any thread.
    func holds(_ id: ContentHash) throws -> Bool

    /// Appends a chunk of data. Records come in order of place, without holes, from one thread at a time.
    /// - Parameters:
    ///   - record: what it is; its hash is its name by the coding's identity.
    ///   - stored: what the encoder made of it, `storedByteCount` bytes; `nil` where `holds` said that it is stored.
    func append(_ record: ChunkRecord, stored: UnsafeRawBufferPointer?) throws

    /// Appends a run without data, in order with the chunks.
    func appendRun(_ kind: RangeKind, region: Int, range: ByteRange) throws

    /// Ends the capture. Nothing of it counts before this has returned.
    func finish(_ facts: LateFacts) throws -> ImageSummary
}

/// What a finished capture has stored.
package struct ImageSummary: Equatable, Sendable {
    /// The id of the image or the snapshot.
    package var id: ContentHash
    /// The length of the image, or what the repository has grown by, in bytes.
    package var storedByteCount: UInt64
    /// The bytes in use of chunks that were not stored before.
    package var newByteCount: UInt64
    /// The bytes in use of chunks that were stored before.
    package var deduplicatedByteCount: UInt64

    /// From parts.
    package init(
        id: ContentHash, storedByteCount: UInt64, newByteCount: UInt64, deduplicatedByteCount: UInt64 = 0
    ) {
        self.id = id
        self.storedByteCount = storedByteCount
        self.newByteCount = newByteCount
        self.deduplicatedByteCount = deduplicatedByteCount
    }
}
