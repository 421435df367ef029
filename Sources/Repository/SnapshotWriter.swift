// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import ObjectStore

/// Writes a snapshot: new chunks go into packs, the lists of all chunks are stored as contents too, and the snapshot's
/// file is written last. Complete packs survive a crash of the capture, and the next capture reuses them.
package final class SnapshotWriter: ImageWriter {
    /// The naming, compression and sealing of its chunks.
    package let coding: ChunkCoding
    let repository: Repository
    private let header: ImageHeader
    private let host: String
    private let disk: String
    private let tags: [String]
    private let mayPublish: @Sendable () throws -> Void
    private let index: WriterIndex
    private let publisher: PackPublisher
    private let state: Monitor<State>

    /// State of the appending thread.
    private struct State {
        var diskPosition: UInt64 = 0
        var regionIndex = 0
        var piece = ListPiece()
        var regions: [Snapshot.RegionPieces]
        var pack: PackWriter?
        var listEncoder: ChunkEncoder
        var mapEncoder: ChunkEncoder
        var statistics = Snapshot.Statistics(newByteCount: 0, deduplicatedByteCount: 0, storedByteCount: 0)
        /// Bytes stored since the last index was written.
        var unindexedByteCount: UInt64 = 0
        var lastSpill = SystemFacts.monotonicSeconds()
        /// The index files written by this capture, by merge level.
        var ownIndexes: [[IndexFile]] = []
        var isEnded = false
        /// The manifest, as it will be published.
        var manifest: Manifest
    }

    /// The limits that trigger writing an index: a killed capture loses no more than this.
    struct SpillLimits: Sendable {
        var entryCount = 65_536
        var byteCount: UInt64 = 512 << 20
        var seconds = 60.0
        /// The number of a capture's index files that are merged into one.
        var filesPerLevel = 8
    }
    private let limits: SpillLimits

    init(
        _ repository: Repository, header: ImageHeader, host: String, disk: String, tags: [String], level: Int,
        limits: SpillLimits = SpillLimits(), mayPublish: @escaping @Sendable () throws -> Void
    ) throws(ImageError) {
        self.limits = limits
        let expected = repository.configuration.chunkByteCount
        guard header.manifest.chunkByteCount == expected, header.maps.count == header.manifest.regions.count,
            header.manifest.contradiction() == nil
        else {
            throw .unsupported(
                name: repository.name,
                what: "its chunks have \(expected) bytes, these have \(header.manifest.chunkByteCount)")
        }
        self.repository = repository
        self.header = header
        self.host = host
        self.disk = disk
        self.tags = tags.sorted()
        self.mayPublish = mayPublish
        coding = repository.coding(level: level, kind: .data)
        _ = try repository.store.sink().removeLeftovers()
        index = try WriterIndex(repository)
        publisher = try PackPublisher(mayPublish: mayPublish)
        do {
            state = Monitor(
                State(
                    regions: [Snapshot.RegionPieces](repeating: .init(), count: header.manifest.regions.count),
                    listEncoder: try ChunkEncoder(repository.coding(level: 3, kind: .list)),
                    mapEncoder: try ChunkEncoder(repository.coding(level: 3, kind: .map)),
                    manifest: header.manifest))
        } catch { throw .about(repository.name, error) }
    }

    /// Whether a chunk with this id is already stored and may be referenced. Callable from any thread.
    package func holds(_ id: ContentHash) throws -> Bool { index.location(BlobKey(id, .data)) != nil }

    /// Appends a chunk of data, in disk order.
    package func append(_ record: ChunkRecord, stored: UnsafeRawBufferPointer?) throws {
        try state.update { state in unsafe try append(record, stored: stored, &state) }
    }

    /// Appends a run without data, in disk order.
    package func appendRun(_ kind: RangeKind, region: Int, range: ByteRange) throws {
        try state.update { state in
            guard kind != .data else { throw ParsingError.invalid(what: "a run of data") }
            let bounds = try checkPlace(region: region, range: range, state)
            let chunk = UInt64(header.manifest.chunkByteCount)
            guard range.upperBound == bounds.upperBound || (range.upperBound - bounds.lowerBound) % chunk == 0 else {
                throw ParsingError.invalid(what: "the end of a run")
            }
            while state.diskPosition < range.upperBound {
                let done = (state.diskPosition - bounds.lowerBound) / chunk
                let left = (range.upperBound - state.diskPosition + chunk - 1) / chunk
                let room = UInt64(RepositoryFormat.pieceChunkCount) - done % UInt64(RepositoryFormat.pieceChunkCount)
                let count = min(left, room)
                state.piece.appendRun(kind, count: count)
                try advance(to: min(range.upperBound, state.diskPosition + count * chunk), &state)
            }
        }
    }

    /// Writes the remaining data, then the snapshot. The snapshot exists only after this returns.
    package func finish(_ facts: LateFacts) throws -> ImageSummary {
        try state.update { state in
            guard !state.isEnded, state.diskPosition == header.manifest.geometry.byteCount else {
                throw ParsingError.invalid(what: "a capture that ends before its disk")
            }
            try spill(&state)
            publisher.close()
            let payload = try SnapshotFile.payload(
                SnapshotFacts(
                    manifest: state.manifest, host: host, disk: disk, tags: tags, lateFacts: facts,
                    statistics: state.statistics), state.regions)
            let id = repository.secrets.identity.id(of: payload)
            let bytes = try SnapshotFile.bytes(payload: payload, id: id, repository.secrets)
            let output = try repository.store.begin(.snapshot(id))
            try output.write(bytes)
            try mayPublish()
            try output.commit()
            // If the process was suspended for longer than a lock lives, needed contents may have been pruned.
            do { try mayPublish() } catch {
                try? repository.store.remove(.snapshot(id))
                throw error
            }
            SnapshotLedger.add(id, repository.store)
            state.isEnded = true
            return ImageSummary(
                id: id, storedByteCount: state.statistics.storedByteCount + UInt64(bytes.count),
                newByteCount: state.statistics.newByteCount,
                deduplicatedByteCount: state.statistics.deduplicatedByteCount)
        }
    }

    /// Changes what the manifest says of the regions' filesystems, before the snapshot is published.
    package func describe(_ regions: [Manifest.Region]) {
        state.update { state in
            guard regions.count == state.manifest.regions.count else { return }
            for index in regions.indices { state.manifest.regions[index].filesystem = regions[index].filesystem }
        }
    }

    /// All that is known of the snapshot once every record was appended; its contents are stored and indexed.
    func storedParts() throws -> (Manifest, Snapshot.Statistics, [Snapshot.RegionPieces]) {
        try state.update { state in
            guard state.diskPosition == header.manifest.geometry.byteCount else {
                throw ParsingError.invalid(what: "a capture that ends before its disk")
            }
            try spill(&state)
            return (state.manifest, state.statistics, state.regions)
        }
    }

    /// Ends an unfinished capture: complete packs are kept for the next capture, the rest is removed.
    package func abandon() {
        state.update { state in
            guard !state.isEnded else { return }
            state.isEnded = true
            if let pack = state.pack {
                do {
                    try pack.finish()
                    try publisher.publish(pack)
                } catch { pack.discard() }
                state.pack = nil
            }
            publisher.close()
            // On a full disk, a discarded pack has freed space for the index of the complete ones.
            let committed = publisher.takeCommitted()
            let entries = index.freshEntries().filter { committed.contains($0.location.pack) }
            _ = try? write(entries)
        }
    }

    deinit { publisher.close() }

    // MARK: Appending

    private func append(_ record: ChunkRecord, stored: UnsafeRawBufferPointer?, _ state: inout State) throws {
        let bounds = try checkPlace(region: record.region, range: record.range, state)
        let chunk = UInt64(header.manifest.chunkByteCount)
        guard record.kind == .data, let id = record.hash,
            record.range.upperBound == min(bounds.upperBound, record.range.lowerBound + chunk)
        else { throw ParsingError.invalid(what: "a chunk") }
        let key = BlobKey(id, .data)
        // Another chunk with this content may have been stored since its worker asked.
        if let location = index.location(key) {
            guard UInt64(location.contentByteCount) == record.range.byteCount else {
                throw ImageError.damagedFile(
                    repository.store.name(of: .pack(location.pack)), "an index gives a chunk another length",
                    at: UInt64(location.offset))
            }
            state.statistics.deduplicatedByteCount += header.usedByteCount(of: record)
        } else {
            guard let stored = unsafe stored, stored.count == record.storedByteCount, unsafe !stored.isEmpty else {
                throw ImageError.missing(
                    "\(repository.name): a chunk that was stored when the capture checked it is gone; capture again")
            }
            unsafe try store(key, contentByteCount: Int(record.range.byteCount), stored, &state)
            state.statistics.newByteCount += header.usedByteCount(of: record)
        }
        state.piece.append(id)
        try advance(to: record.range.upperBound, &state)
    }

    /// Records must follow each other, region by region.
    /// - Returns: the range of the region.
    private func checkPlace(region: Int, range: ByteRange, _ state: State) throws -> ByteRange {
        guard !state.isEnded else { throw ParsingError.invalid(what: "a record after the end") }
        guard region == state.regionIndex, region < header.manifest.regions.count,
            range.lowerBound == state.diskPosition, !range.isEmpty,
            range.upperBound <= header.manifest.regions[region].range.upperBound
        else { throw ParsingError.invalid(what: "a record that does not follow the one before") }
        return header.manifest.regions[region].range
    }

    /// Notes that the disk is described up to `end`, and stores a piece of the list and of the map if complete.
    private func advance(to end: UInt64, _ state: inout State) throws {
        state.diskPosition = end
        let region = header.manifest.regions[state.regionIndex]
        let isRegionEnd = end == region.range.upperBound
        if state.piece.chunkCount == UInt64(RepositoryFormat.pieceChunkCount) || isRegionEnd {
            let number = state.regions[state.regionIndex].lists.count
            let span = Snapshot.span(ofPiece: number, region, header.manifest.chunkByteCount)
            let list = try store(state.piece.bytes, .list, state.listEncoder, &state)
            state.regions[state.regionIndex].lists.append(list)
            let map = MapPiece.bytes(header.maps[state.regionIndex], span: span)
            let mapID = try store(map, .map, state.mapEncoder, &state)
            state.regions[state.regionIndex].maps.append(mapID)
            state.piece = ListPiece()
        }
        if isRegionEnd { state.regionIndex += 1 }
        if index.freshCount >= limits.entryCount || state.unindexedByteCount >= limits.byteCount
            || SystemFacts.monotonicSeconds() - state.lastSpill >= limits.seconds
        {
            try spill(&state)
        }
    }

    /// Stores a piece unless it is already stored.
    private func store(
        _ content: [UInt8], _ kind: BlobKind, _ encoder: ChunkEncoder, _ state: inout State
    ) throws -> ContentHash {
        let id = coding.identity.id(of: content)
        let key = BlobKey(id, kind)
        if index.location(key) != nil { return id }
        var stored = [UInt8](repeating: 0, count: ChunkCoding.bound(content.count))
        let count = unsafe try stored.withUnsafeMutableBytes { stored in
            unsafe try content.withUnsafeBytes { unsafe try encoder.encode($0, id: id, into: stored) }
        }
        unsafe try stored.withUnsafeBytes { stored in
            unsafe try store(
                key, contentByteCount: content.count, UnsafeRawBufferPointer(rebasing: stored[..<count]), &state)
        }
        return id
    }

    /// Appends stored bytes to the pack.
    private func store(
        _ key: BlobKey, contentByteCount: Int, _ stored: UnsafeRawBufferPointer, _ state: inout State
    ) throws {
        let pack: PackWriter
        if let open = state.pack {
            pack = open
        } else {
            pack = try PackWriter(repository.store, repository.secrets)
            state.pack = pack
        }
        let location = unsafe try pack.append(key, contentByteCount: contentByteCount, stored: stored)
        index.add(key, location)
        state.unindexedByteCount += UInt64(stored.count)
        if pack.isFull { try finishPack(&state) }
    }

    private func finishPack(_ state: inout State) throws {
        guard let pack = state.pack else { return }
        state.pack = nil
        try pack.finish()
        state.statistics.storedByteCount += pack.byteCount
        try publisher.publish(pack)
    }

    // MARK: Indexes

    /// Makes all stored data durable and visible to other processes.
    private func spill(_ state: inout State) throws {
        try finishPack(&state)
        try publisher.drain()
        let file = try write(index.freshEntries())
        // All committed packs are indexed now.
        _ = publisher.takeCommitted()
        state.unindexedByteCount = 0
        state.lastSpill = SystemFacts.monotonicSeconds()
        guard let file else { return }
        state.statistics.storedByteCount += file.byteCount
        index.replace([], by: file, clearsFresh: true)
        try addOwn(file, &state)
    }

    private func write(_ entries: [IndexEntry]) throws -> IndexFile? {
        guard !entries.isEmpty else { return nil }
        let writer = try IndexWriter(
            repository.store, repository.secrets, expectedEntryCount: UInt64(entries.count))
        for entry in entries { try writer.add(entry) }
        try mayPublish()
        _ = try writer.finish()
        return try IndexFile(writer.name, repository.store, repository.secrets)
    }

    /// A long capture would leave thousands of small index files: eight of a level are merged into one. They belong to
    /// this capture, so no lock is needed; if another process merges them too, entries are duplicated.
    private func addOwn(_ file: IndexFile, _ state: inout State) throws {
        var file = file
        var level = 0
        while true {
            if level == state.ownIndexes.count { state.ownIndexes.append([]) }
            state.ownIndexes[level].append(file)
            guard state.ownIndexes[level].count >= limits.filesPerLevel else { return }
            let old = state.ownIndexes[level]
            state.ownIndexes[level] = []
            file = try repository.merge(old, mayPublish: mayPublish)
            index.replace(Set(old.map(\.name)), by: file, clearsFresh: false)
            level += 1
        }
    }
}
