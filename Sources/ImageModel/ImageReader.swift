// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel

/// A capture that is read front to back: an image in a file or a pipe, a snapshot of a repository, or a raw image that
/// somebody else made. Nothing of it is believed before it is checked.
package protocol ImageReader: AnyObject {
    /// How messages call it.
    var name: String { get }
    /// What it says of its disk.
    var header: ImageHeader { get }
    /// How its chunks are named, compressed and sealed.
    var coding: ChunkCoding { get }
    /// How it ended; `nil` until the end was reached and confirmed everything before it.
    var ending: ImageEnding? { get }
    /// Where the reader is in what it reads, in bytes: for messages.
    var position: UInt64 { get }

    /// The next record in order of place, or `nil` once the end was reached and everything was confirmed.
    ///
    /// What is stored for the record before must have been read (`readStored`), is read later (`storedFetch`), or is
    /// passed over.
    func nextRecord() throws(ImageError) -> ChunkRecord?

    /// Takes what cannot be had of the capture for lost; `nil` where that ends the work.
    var salvage: Salvage? { get }

    /// Passes over what the last call of `nextRecord` failed on, so that the next call gives a record behind it.
    /// Returns whether there may be one; `false` where what follows cannot be found.
    func passDamage() -> Bool

    /// Reads what is stored for the last record, `storedByteCount` bytes, into `buffer`.
    func readStored(into buffer: UnsafeMutableRawBufferPointer) throws(ImageError)

    /// How to read what is stored for the last record later, and on any thread; `nil` where it passes by only once.
    func storedFetch() -> StoredFetch?

    /// Where else the content of the last record is stored, for where what `storedFetch` reads is damaged or cannot be read;
    /// `nil` where it is stored once.
    func otherCopies() -> OtherCopies?

    /// Makes errors about bytes of the disk, on any thread: what is wrong, where in the file, which bytes of the disk.
    var damageReporter: @Sendable (String, UInt64, ByteRange?) -> ImageError { get }
}

extension ImageReader {
    /// Damage ends the work, but for a `SalvageReader`.
    package var salvage: Salvage? { nil }

    /// What comes behind damage is found only where something else tells where it lies.
    package func passDamage() -> Bool { false }

    /// Only a repository stores a content more than once.
    package func otherCopies() -> OtherCopies? { nil }

    /// Errors that name the partition of the manifest's regions in which the bytes lie.
    package var damageReporter: @Sendable (String, UInt64, ByteRange?) -> ImageError {
        { [name, regions = header.manifest.regions] what, fileOffset, range in
            .damaged(
                name: name, what: what, fileOffset: fileOffset, disk: range,
                partition: range.flatMap { range in regions.first { $0.range.overlaps(range) }?.partition })
        }
    }
}

/// Reads what is stored for one record into a buffer of its `storedByteCount`.
package typealias StoredFetch = @Sendable (UnsafeMutableRawBufferPointer) throws(ImageError) -> Void

/// Fills a buffer of a record's length with its content, from the first of its other copies that is whole, on any thread.
/// Returns whether there was one; the buffer holds anything where there was none.
package typealias OtherCopies = @Sendable (UnsafeMutableRawBufferPointer) -> Bool

/// How a capture ended.
package struct ImageEnding: Equatable, Sendable {
    /// The id of the image or the snapshot: of all its contents.
    package var id: ContentHash
    /// What was known only at the end.
    package var lateFacts: LateFacts

    /// From parts.
    package init(id: ContentHash, lateFacts: LateFacts) {
        self.id = id
        self.lateFacts = lateFacts
    }
}
