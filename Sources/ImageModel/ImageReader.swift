// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel

/// A capture read sequentially: an image in a file or a pipe, a snapshot of a repository, or a raw image made by
/// another program. Its contents are verified before use.
package protocol ImageReader: AnyObject {
    /// The name in messages.
    var name: String { get }
    /// The description of its disk.
    var header: ImageHeader { get }
    /// The naming, compression and sealing of its chunks.
    var coding: ChunkCoding { get }
    /// The end of the capture; `nil` until the end is reached and everything before it is verified.
    var ending: ImageEnding? { get }
    /// The current offset in the source, in bytes, for messages.
    var position: UInt64 { get }

    /// The next record in disk order, or `nil` once the end is reached and everything is verified.
    ///
    /// The stored bytes of the previous record must have been read (`readStored`) or are read later (`storedFetch`);
    /// otherwise they are skipped.
    func nextRecord() throws(ImageError) -> ChunkRecord?

    /// Records unreadable parts of the capture as lost; `nil` if damage ends the work.
    var salvage: Salvage? { get }

    /// The ranges of the disk that could not be read while its records were made, and are zeros in them. Empty for a
    /// capture, whose late facts name its own.
    var unread: [ByteRange] { get }

    /// Skips the part on which the last call of `nextRecord` failed, so that the next call returns a later record.
    /// Returns whether there may be one; `false` if the following data cannot be located.
    func passDamage() -> Bool

    /// Reads the stored bytes of the last record, `storedByteCount` of them, into `buffer`.
    func readStored(into buffer: UnsafeMutableRawBufferPointer) throws(ImageError)

    /// A closure that reads the stored bytes of the last record later, on any thread; `nil` if the source can be read
    /// only once.
    func storedFetch() -> StoredFetch?

    /// The other copies of the last record's content, for when the one read by `storedFetch` is damaged or unreadable;
    /// `nil` if there is only one copy.
    func otherCopies() -> OtherCopies?

    /// Makes errors about bytes of the disk, on any thread: the problem, the offset in the file, the bytes of the disk.
    var damageReporter: @Sendable (String, UInt64, ByteRange?) -> ImageError { get }
}

extension ImageReader {
    /// Damage ends the work, except for a `SalvageReader`.
    package var salvage: Salvage? { nil }

    /// Only a disk that is read now has such ranges.
    package var unread: [ByteRange] { [] }

    /// The ranges that could not be read, as losses.
    package var unreadLosses: [Salvage.Loss] { unread.map { Salvage.Loss(range: $0, hash: nil) } }

    /// By default, data behind damage cannot be located.
    package func passDamage() -> Bool { false }

    /// Only a repository stores a content more than once.
    package func otherCopies() -> OtherCopies? { nil }

    /// Makes errors that name the partition of the region that holds the bytes.
    package var damageReporter: @Sendable (String, UInt64, ByteRange?) -> ImageError {
        { [name, header] what, fileOffset, range in header.damage(name: name, what, at: fileOffset, range) }
    }
}

/// Reads the stored bytes of one record into a buffer of its `storedByteCount`.
package typealias StoredFetch = @Sendable (UnsafeMutableRawBufferPointer) throws(ImageError) -> Void

/// Fills a buffer of a record's length with its content, from the first intact one of its other copies, on any thread.
/// Returns whether there was one; otherwise the contents of the buffer are undefined.
package typealias OtherCopies = @Sendable (UnsafeMutableRawBufferPointer) -> Bool

/// The end of a capture.
package struct ImageEnding: Equatable, Sendable {
    /// The id of the image or the snapshot, a hash of its contents.
    package var id: ContentHash
    /// The facts known only at the end.
    package var lateFacts: LateFacts

    /// From parts.
    package init(id: ContentHash, lateFacts: LateFacts) {
        self.id = id
        self.lateFacts = lateFacts
    }
}
