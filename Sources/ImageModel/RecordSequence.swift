// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The order of records: each must describe the next part of the disk, in its region, on its chunk grid.
package struct RecordSequence {
    private let header: ImageHeader
    /// The position on the disk at which the next record must start.
    private(set) var position: UInt64 = 0
    private var region = 0

    package init(_ header: ImageHeader) { self.header = header }

    /// Whether the records cover the whole disk.
    package var isAtEnd: Bool { position >= header.manifest.geometry.byteCount }

    /// The next chunk: the minimum that the next record must cover.
    package var nextChunk: ByteRange {
        guard region < header.manifest.regions.count else { return position..<position }
        let end = header.manifest.regions[region].range.upperBound
        return
            position..<min(end, position.addingReportingOverflow(UInt64(header.manifest.chunkByteCount)).partialValue)
    }

    /// Whether `record` is the next one: right place, right region, on the grid. Its stored bytes are not checked.
    package func check(_ record: ChunkRecord) throws(ParsingError) {
        let regions = header.manifest.regions
        guard region < regions.count, record.region == region, record.range.lowerBound == position,
            record.range.upperBound <= regions[region].range.upperBound
        else { throw .invalid(what: "a record that does not follow the one before") }
        if record.kind == .data {
            guard record.range == nextChunk else { throw .invalid(what: "a chunk's length") }
            return
        }
        let whole = regions[region].range
        guard record.range.byteCount <= ImageFormat.longestRun,
            record.range.upperBound == whole.upperBound
                || (record.range.upperBound - whole.lowerBound) % UInt64(header.manifest.chunkByteCount) == 0
        else { throw .invalid(what: "a run's length") }
        // A run marked unused must be unused by the map, which decides what may be dropped.
        let relative = record.range.lowerBound - whole.lowerBound..<record.range.upperBound - whole.lowerBound
        guard record.kind == .zero || header.maps[region].ranges(in: relative).isEmpty else {
            throw .invalid(what: "a run marked unused that the map marks as used")
        }
    }

    /// Advances past a checked record.
    package mutating func advance(over record: ChunkRecord) { advance(to: record.range.upperBound) }

    /// Advances past the next chunk, whose record is lost.
    package mutating func passChunk() { advance(to: nextChunk.upperBound) }

    private mutating func advance(to place: UInt64) {
        position = place
        if position == header.manifest.regions[region].range.upperBound { region += 1 }
    }
}
