// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel

/// A capture whose records are found by their place on the disk: in any order, by several threads.
package protocol CaptureIndex: AnyObject, Sendable {
    /// The name in messages.
    var name: String { get }
    /// The description of its disk.
    var header: ImageHeader { get }
    /// The naming, compression and sealing of its chunks.
    var coding: ChunkCoding { get }
    var ending: ImageEnding { get }
    /// The record that holds the byte at `offset` of the disk. Its place is checked; whether its content is there is not.
    func record(at offset: UInt64) throws(ImageError) -> ChunkRecord
    /// Where the content of the data that holds the byte at `offset` is stored.
    func content(at offset: UInt64) throws(ImageError) -> StoredContent
}

/// Where the content of a chunk is stored.
@safe package struct StoredContent: Sendable {
    package var record: ChunkRecord
    /// The offset in its file, for messages.
    package var position: UInt64
    /// Reads the stored bytes.
    package var fetch: StoredFetch
    /// `nil` if there is only one copy.
    package var otherCopies: OtherCopies?

    package init(
        _ record: ChunkRecord, position: UInt64, fetch: @escaping StoredFetch, otherCopies: OtherCopies? = nil
    ) {
        self.record = record
        self.position = position
        unsafe self.fetch = fetch
        unsafe self.otherCopies = otherCopies
    }
}

extension ImageHeader {
    /// The region that holds the byte at `offset`; `nil` behind the end of the disk.
    package func region(at offset: UInt64) -> Int? {
        var low = 0
        var high = manifest.regions.count
        while low < high {
            let middle = (low + high) / 2
            if manifest.regions[middle].range.upperBound > offset { high = middle } else { low = middle + 1 }
        }
        return low < manifest.regions.count && manifest.regions[low].range.contains(offset) ? low : nil
    }

    /// The chunk of the grid that holds the byte at `offset` of a region.
    package func chunk(at offset: UInt64, region: Int) -> ByteRange {
        let range = manifest.regions[region].range
        let start = offset - (offset - range.lowerBound) % UInt64(manifest.chunkByteCount)
        return
            start..<min(range.upperBound, start.addingReportingOverflow(UInt64(manifest.chunkByteCount)).partialValue)
    }

    /// Whether a record may be the one for the byte at `offset`: in its region, on the grid, and marked unused only if
    /// the map says so.
    package func check(_ record: ChunkRecord, at offset: UInt64) throws(ParsingError) {
        guard record.range.contains(offset), let region = region(at: offset), record.region == region,
            manifest.regions[region].range.covers(record.range)
        else { throw .invalid(what: "a record's place") }
        switch record.kind {
        case .data:
            guard record.range == chunk(at: offset, region: region) else { throw .invalid(what: "a chunk's length") }
        case .zero: break
        case .unused:
            let start = manifest.regions[region].range.lowerBound
            guard maps[region].ranges(in: record.range.lowerBound - start..<record.range.upperBound - start).isEmpty
            else { throw .invalid(what: "a run marked unused that the map marks as used") }
        }
    }

    /// An error about bytes of the disk, which names their partition.
    package func damage(name: String, _ what: String, at fileOffset: UInt64, _ range: ByteRange?) -> ImageError {
        .damaged(
            name: name, what: what, fileOffset: fileOffset, disk: range,
            partition: range.flatMap { range in
                manifest.regions.first { $0.range.overlaps(range) }?.partition
            })
    }
}
