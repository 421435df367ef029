// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem

/// Reads a snapshot sequentially, as an image: ascending records without holes, all of them checked. Not thread-safe,
/// except for the closures from `storedFetch`.
package final class SnapshotReader: ImageReader {
    /// `REPO@ID`.
    package let name: String
    /// The description of its disk, with the maps.
    package let header: ImageHeader
    /// The naming, compression and sealing of its chunks.
    package let coding: ChunkCoding
    /// The end of the capture; `nil` until all records were read.
    package private(set) var ending: ImageEnding?
    /// The stored bytes passed so far.
    package private(set) var position: UInt64 = 0

    private let snapshot: Snapshot
    private let blobs: BlobSource
    private let chunk: UInt64
    private var regionIndex = 0
    private var diskPosition: UInt64 = 0
    /// The number of the next piece, its entries, and the next of these.
    private var nextPiece = 0
    private var entries: [ListPiece.Entry] = []
    private var nextEntry = 0
    /// An error to be thrown after the records before it.
    private var held: ImageError?
    /// The last record, if it is data.
    private var pending: SnapshotChunk?
    private let repository: Repository

    init(_ repository: Repository, _ snapshot: Snapshot) throws(ImageError) {
        let name = repository.name(of: snapshot.info.id)
        self.name = name
        self.snapshot = snapshot
        self.repository = repository
        coding = repository.coding(level: snapshot.manifest.level, kind: .data)
        let blobs = try BlobSource(repository)
        self.blobs = blobs
        let chunkByteCount = snapshot.manifest.chunkByteCount
        chunk = UInt64(chunkByteCount)
        var maps: [AllocationMap] = []
        var rangeCount = 0
        for (region, pieces) in zip(snapshot.manifest.regions, snapshot.regions) {
            var map = AllocationMap(byteCount: region.range.byteCount)
            do {
                for (index, id) in pieces.maps.enumerated() {
                    try MapPiece.insert(
                        try blobs.content(id, .map, limit: RepositoryFormat.largestPiece),
                        span: Snapshot.span(ofPiece: index, region, chunkByteCount), into: &map)
                    guard map.ranges.count <= RepositoryFormat.largestMapRangeCount - rangeCount else {
                        throw ParsingError.invalid(what: "a map's number of ranges")
                    }
                }
                guard map.usedByteCount == region.usedByteCount else {
                    throw ParsingError.invalid(what: "a map's number of used bytes")
                }
            } catch {
                if let error = error as? ImageError, case .system = error { throw error }
                throw .damaged(
                    name: name, what: "the allocation map: \(error)", fileOffset: 0, disk: region.range,
                    partition: region.partition)
            }
            rangeCount += map.ranges.count
            maps.append(map)
        }
        header = ImageHeader(manifest: snapshot.manifest, maps: maps)
    }

    /// The next record, or `nil` at the end. A missing one is skipped after its error: the next call returns the record
    /// that follows.
    package func nextRecord() throws(ImageError) -> ChunkRecord? {
        pending = nil
        if let error = held {
            held = nil
            throw error
        }
        var run: (kind: RangeKind, range: ByteRange)?
        while regionIndex < header.manifest.regions.count {
            let region = header.manifest.regions[regionIndex]
            if diskPosition == region.range.upperBound {
                if let run { return try record(of: run) }
                regionIndex += 1
                nextPiece = 0
                entries = []
                nextEntry = 0
                continue
            }
            if nextEntry == entries.count {
                do { try readPiece(region) } catch {
                    // The run before it is intact: return that first, then throw the error.
                    guard let run else { throw error }
                    held = error
                    return try record(of: run)
                }
                continue
            }
            switch entries[nextEntry] {
            case .run(let kind, let count):
                if let before = run, before.kind != kind { return try record(of: before) }
                nextEntry += 1
                let start = diskPosition
                // Pieces were checked against the grid: this cannot exceed the region's end by more than a chunk.
                diskPosition = min(region.range.upperBound, start + count * chunk)
                run = (kind, (run?.range.lowerBound ?? start)..<diskPosition)
            case .data(let id):
                if let run { return try record(of: run) }
                nextEntry += 1
                let range = diskPosition..<min(diskPosition + chunk, region.range.upperBound)
                diskPosition = range.upperBound
                return try dataRecord(id, range)
            }
        }
        if ending == nil { ending = ImageEnding(id: snapshot.info.id, lateFacts: snapshot.lateFacts) }
        return nil
    }

    /// `nextRecord` has already skipped damaged parts.
    package func passDamage() -> Bool { true }

    /// Reads the next piece of a region's list.
    private func readPiece(_ region: Manifest.Region) throws(ImageError) {
        let index = nextPiece
        let span = Snapshot.span(ofPiece: index, region, header.manifest.chunkByteCount)
        let range = span.shifted(up: region.range.lowerBound) ?? region.range
        let pieces = snapshot.regions[regionIndex].lists
        guard index < pieces.count else {
            diskPosition = region.range.upperBound
            throw damageReporter("a list that is too short", position, range)
        }
        nextPiece += 1
        nextEntry = 0
        entries = []
        do {
            let bytes = try blobs.content(pieces[index], .list, limit: RepositoryFormat.largestPiece)
            entries = try ListPiece(
                bytes, chunkCount: Snapshot.chunkCount(ofPiece: index, region, header.manifest.chunkByteCount)
            ).entries
        } catch {
            diskPosition = range.upperBound
            if let error = error as? ImageError, case .system = error { throw error }
            throw damageReporter("the list of chunks: \(error)", position, range)
        }
    }

    private func record(of run: (kind: RangeKind, range: ByteRange)) throws(ImageError) -> ChunkRecord {
        let region = header.manifest.regions[regionIndex].range
        let relative = run.range.lowerBound - region.lowerBound..<run.range.upperBound - region.lowerBound
        // A run marked unused must be unused by the map, which decides what may be dropped.
        guard run.kind == .zero || header.maps[regionIndex].ranges(in: relative).isEmpty else {
            throw damageReporter("a run marked unused that the map marks as used", position, run.range)
        }
        return ChunkRecord(kind: run.kind, region: regionIndex, range: run.range, storedByteCount: 0, hash: nil)
    }

    private func dataRecord(_ id: ContentHash, _ range: ByteRange) throws(ImageError) -> ChunkRecord {
        let chunk = try SnapshotChunk(
            id, range, region: regionIndex, in: blobs, position: position, damageReporter)
        position += UInt64(chunk.record.storedByteCount)
        pending = chunk
        return chunk.record
    }

    /// Reads the stored bytes of the last record.
    package func readStored(into buffer: UnsafeMutableRawBufferPointer) throws(ImageError) {
        guard let fetch = unsafe storedFetch() else { return }
        unsafe try fetch(buffer)
    }

    /// A closure that reads the stored bytes of the last record, later and on any thread; `nil` only if the record is
    /// not data.
    package func storedFetch() -> StoredFetch? { unsafe pending?.fetch(damageReporter) }

    /// Reads the content of the last record from its other places.
    package func otherCopies() -> OtherCopies? { unsafe pending?.otherCopies(repository, coding) }
}
