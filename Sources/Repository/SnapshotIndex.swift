// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem

/// A snapshot whose records are found by their place on the disk. Opening reads its maps; a piece of a list is read when
/// a chunk in it is needed.
package final class SnapshotIndex: CaptureIndex {
    package let name: String
    package let header: ImageHeader
    package let coding: ChunkCoding
    package let ending: ImageEnding
    private let snapshot: Snapshot
    private let repository: Repository
    private let state: Monitor<State>

    private struct State {
        let blobs: BlobSource
        /// The pieces used last, the latest at the end.
        var held: [(place: Place, entries: [ListPiece.Entry])] = []
    }
    private struct Place: Equatable {
        var region: Int
        var piece: Int
    }
    /// Upper bound on the pieces in memory, each of up to 1024 entries: some 4 MiB.
    private static let mostHeld = 64

    init(_ repository: Repository, _ snapshot: Snapshot) throws(ImageError) {
        let reader = try SnapshotReader(repository, snapshot)
        name = reader.name
        header = reader.header
        coding = reader.coding
        ending = ImageEnding(id: snapshot.info.id, lateFacts: snapshot.lateFacts)
        self.snapshot = snapshot
        self.repository = repository
        state = Monitor(State(blobs: try BlobSource(repository)))
    }

    package func record(at offset: UInt64) throws(ImageError) -> ChunkRecord {
        // A BlobSource is for one thread at a time.
        let result = state.update { state in
            Result { () throws(ImageError) in try record(at: offset, &state) }
        }
        return try result.get()
    }

    package func content(at offset: UInt64) throws(ImageError) -> StoredContent {
        let result = state.update { state in
            Result { () throws(ImageError) -> StoredContent in
                let record = try record(at: offset, &state)
                guard let id = record.hash else { throw report("no data", record.range) }
                let chunk = try SnapshotChunk(
                    id, record.range, region: record.region, in: state.blobs, position: 0, damageReporter)
                return unsafe StoredContent(
                    chunk.record, position: chunk.position, fetch: chunk.fetch(damageReporter),
                    otherCopies: chunk.otherCopies(repository, coding))
            }
        }
        return try result.get()
    }

    private func record(at offset: UInt64, _ state: inout State) throws(ImageError) -> ChunkRecord {
        guard let region = header.region(at: offset) else {
            throw report("no region has a byte", offset..<offset.addingReportingOverflow(1).partialValue)
        }
        let grid = UInt64(header.manifest.chunkByteCount)
        let chunk = header.chunk(at: offset, region: region)
        let end = header.manifest.regions[region].range.upperBound
        // A disk has at most 2^60 bytes, and a chunk at least 2^16.
        let number = (chunk.lowerBound - header.manifest.regions[region].range.lowerBound) / grid
        let wanted = number % UInt64(RepositoryFormat.pieceChunkCount)
        let piece = Int(number / UInt64(RepositoryFormat.pieceChunkCount))
        var position: UInt64 = 0
        for entry in try entries(of: Place(region: region, piece: piece), &state) {
            switch entry {
            case .data(let id):
                if position == wanted {
                    return ChunkRecord(kind: .data, region: region, range: chunk, storedByteCount: 0, hash: id)
                }
                position += 1
            case .run(let kind, let count):
                if position + count > wanted {
                    let first = chunk.lowerBound - (wanted - position) * grid
                    // The region may end within the grid's last chunk.
                    let range = first..<min(end, first + count * grid)
                    let record = ChunkRecord(kind: kind, region: region, range: range, storedByteCount: 0, hash: nil)
                    do throws(ParsingError) { try header.check(record, at: offset) } catch {
                        throw report("\(error)", range)
                    }
                    return record
                }
                position += count
            }
        }
        throw report("a list that is too short", chunk)
    }

    /// The entries of a piece, from memory or the repository.
    private func entries(of place: Place, _ state: inout State) throws(ImageError) -> [ListPiece.Entry] {
        if let index = state.held.firstIndex(where: { $0.place == place }) {
            state.held.append(state.held.remove(at: index))
            return state.held[state.held.count - 1].entries
        }
        let region = header.manifest.regions[place.region]
        let span = Snapshot.span(ofPiece: place.piece, region, header.manifest.chunkByteCount)
        let range = span.shifted(up: region.range.lowerBound) ?? region.range
        let pieces = snapshot.regions[place.region].lists
        guard place.piece < pieces.count else { throw report("a list that is too short", range) }
        let entries: [ListPiece.Entry]
        do {
            entries = try ListPiece(
                try state.blobs.content(pieces[place.piece], .list, limit: RepositoryFormat.largestPiece),
                chunkCount: Snapshot.chunkCount(ofPiece: place.piece, region, header.manifest.chunkByteCount)
            ).entries
        } catch {
            if let error = error as? ImageError, case .system = error { throw error }
            throw report("the list of chunks: \(error)", range)
        }
        if state.held.count == Self.mostHeld { state.held.removeFirst() }
        state.held.append((place, entries))
        return entries
    }

    private func report(_ what: String, _ range: ByteRange) -> ImageError {
        header.damage(name: name, what, at: 0, range)
    }

    private var damageReporter: SnapshotChunk.Report {
        { [name, header] what, position, range in header.damage(name: name, what, at: position, range) }
    }
}
