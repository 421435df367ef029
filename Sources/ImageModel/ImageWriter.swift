// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel

/// The destination of a capture: an image or a repository.
package protocol ImageWriter: AnyObject, Sendable {
    /// The naming, compression and sealing of its chunks.
    var coding: ChunkCoding { get }

    /// Whether a content with this id is already stored and need not be compressed. Callable from any thread.
    func holds(_ id: ContentHash) throws -> Bool

    /// Appends a chunk of data. Records must be in disk order, without holes; not thread-safe.
    /// - Parameters:
    ///   - record: the description of the chunk; its hash is the id by the coding's identity.
    ///   - stored: the encoded chunk, `storedByteCount` bytes; `nil` if `holds` reported it as stored.
    func append(_ record: ChunkRecord, stored: UnsafeRawBufferPointer?) throws

    /// Appends a run without data, in order with the chunks.
    func appendRun(_ kind: RangeKind, region: Int, range: ByteRange) throws

    /// Ends the capture. It is valid only after this has returned.
    func finish(_ facts: LateFacts) throws -> ImageSummary
}

/// The amounts stored by a finished capture.
package struct ImageSummary: Equatable, Sendable {
    /// The id of the image or the snapshot.
    package var id: ContentHash
    /// The length of the image, or the growth of the repository, in bytes.
    package var storedByteCount: UInt64
    /// The bytes in use of newly stored chunks.
    package var newByteCount: UInt64
    /// The bytes in use of chunks that were already stored.
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
