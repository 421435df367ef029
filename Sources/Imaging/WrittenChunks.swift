// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageModel
import LinuxSystem

/// The ids of the written chunks, in bounded memory, for a comparison with the target.
///
/// The manifest gives the chunk grid, and the maps give the chunks with used bytes. So only ids are kept: those of
/// neighbouring chunks are hashed together, in at most `mostGroups` groups (8 MiB of hashes). A disk with no more
/// chunks than that has a group for each, and an error names the exact chunk.
struct WrittenChunks {
    /// With 1 MiB a chunk, disks up to 256 GiB have a group for every chunk.
    static let mostGroups: UInt64 = 1 << 18

    private let header: ImageHeader
    /// The destination of each region.
    private let destinations: [RestorePlan.Destination]
    private let identity: ChunkIdentity
    private let chunkByteCount: UInt64
    /// The number of chunks before each region.
    private let firstChunks: [UInt64]
    /// The number of chunks of the grid in a group.
    let groupChunkCount: UInt64
    private let zeroChunkID: ContentHash
    private var groups: GroupHashes

    init(
        _ header: ImageHeader, _ destinations: [RestorePlan.Destination], identity: ChunkIdentity,
        mostGroups: UInt64 = Self.mostGroups
    ) {
        self.header = header
        self.destinations = destinations
        self.identity = identity
        chunkByteCount = UInt64(header.manifest.chunkByteCount)
        var count: UInt64 = 0
        var firstChunks: [UInt64] = []
        for region in header.manifest.regions {
            firstChunks.append(count)
            // No overflow: a disk has 2^60 bytes at most, and a region a byte at least.
            count += (region.range.byteCount + chunkByteCount - 1) / chunkByteCount
        }
        self.firstChunks = firstChunks
        groupChunkCount = max(1, (count + mostGroups - 1) / max(1, mostGroups))
        zeroChunkID = Self.zeroID(header.manifest.chunkByteCount, identity)
        groups = GroupHashes(groupChunkCount: groupChunkCount)
    }

    /// The number of hashes.
    var groupCount: Int { groups.hashes.count }

    /// Adds a record whose used bytes were written. Records must come in order.
    /// - Parameter used: the used bytes, relative to the record's start, ascending.
    mutating func add(_ record: ChunkRecord, used: [ByteRange]) {
        let region = header.manifest.regions[record.region].range
        let start = record.range.lowerBound - region.lowerBound
        Self.forEachChunk(used, from: start, chunkByteCount) { chunk in
            groups.add(
                record.hash ?? zeroID(of: chunkRange(chunk, in: region)), chunk: firstChunks[record.region] + chunk)
        }
    }

    /// Finishes the last group.
    mutating func finish() { groups.finish() }

    /// Reads every chunk with bytes in use back, and compares.
    /// - Parameter losses: chunks that zeros were written for.
    func compare(
        with target: TargetWriter, losses: [Salvage.Loss] = [], progress: Progress,
        cancellation: Cancellation = Cancellation()
    ) throws {
        var lost: [UInt64: ContentHash] = [:]
        for loss in losses { lost[loss.range.lowerBound] = loss.hash }
        let regions: [(index: Int, placed: PlacedRegion)] = destinations.indices.compactMap { index in
            guard let placed = PlacedRegion(destinations[index], byteCount: header.maps[index].byteCount, on: target)
            else { return nil }
            return (index: index, placed: placed)
        }
        progress.begin("verify", total: regions.reduce(0) { $0 + header.maps[$1.index].usedByteCount })
        let buffer = try ChunkBuffer(chunkByteCount: header.manifest.chunkByteCount)
        var read = GroupHashes(groupChunkCount: groupChunkCount)
        /// The range of the current group: on the target, or on the scratch behind it.
        var place: ByteRange?
        var name = target.name
        func check(_ isRight: Bool) throws {
            guard !isRight, let place else { return }
            throw ImagingError.block(
                BlockIOError(
                    .read, name: name, offset: place.lowerBound, byteCount: place.byteCount, errorNumber: 5,
                    reason: "the disk gave back other bytes than were written"
                        + (groupChunkCount > 1 ? " somewhere in this range" : "")
                        + ": it is failing, or smaller than it reports"))
        }
        for (index, placed) in regions {
            let region = header.manifest.regions[index].range
            try Self.forEachChunk(header.maps[index].ranges, from: 0, chunkByteCount) { chunk in
                try cancellation.check()
                let range = chunkRange(chunk, in: region)
                var id = try id(ofChunkAt: range, in: index, placed, buffer)
                // Its group was hashed with the id of its record.
                if let hash = lost[region.lowerBound + range.lowerBound], id == zeroID(of: range) { id = hash }
                if read.begins(chunk: firstChunks[index] + chunk) {
                    read.finish()
                    try check(read.agreesSoFar(with: groups))
                    place = nil
                    name = target.name
                }
                read.add(id, chunk: firstChunks[index] + chunk)
                let here = placed.start + range.lowerBound..<placed.start + range.upperBound
                if placed.isSpilled { name = placed.name }
                // Partitions may have another order on the target.
                place =
                    place.map {
                        min($0.lowerBound, here.lowerBound)..<max($0.upperBound, here.upperBound)
                    } ?? here
                progress.advance(header.maps[index].ranges(in: range).reduce(0) { $0 + $1.byteCount })
            }
        }
        read.finish()
        try check(read.agreesSoFar(with: groups) && read.hashes.count == groups.hashes.count)
    }

    /// The id of a chunk as read from the target, with unused bytes as zeros.
    /// - Parameter range: the chunk, relative to its region's start.
    private func id(
        ofChunkAt range: ByteRange, in region: Int, _ placed: PlacedRegion, _ buffer: ChunkBuffer
    ) throws(BlockIOError) -> ContentHash {
        let content = UnsafeMutableRawBufferPointer(rebasing: buffer.content[..<Int(range.byteCount)])
        let used = header.maps[region].ranges(in: range)
            .map { Int($0.lowerBound - range.lowerBound)..<Int($0.upperBound - range.lowerBound) }
        for part in used {
            try placed.read(
                into: UnsafeMutableRawBufferPointer(rebasing: content[part]),
                at: range.lowerBound + UInt64(part.lowerBound))
        }
        ChunkMask.zeroUnused(content, used: used)
        let bytes = UnsafeRawBufferPointer(content)
        return ZeroTest.isZero(bytes) ? zeroID(of: range) : identity.id(of: bytes)
    }

    private func chunkRange(_ chunk: UInt64, in region: ByteRange) -> ByteRange {
        chunk * chunkByteCount..<min((chunk + 1) * chunkByteCount, region.byteCount)
    }

    private func zeroID(of range: ByteRange) -> ContentHash {
        range.byteCount == chunkByteCount ? zeroChunkID : Self.zeroID(Int(range.byteCount), identity)
    }

    private static func zeroID(_ byteCount: Int, _ identity: ChunkIdentity) -> ContentHash {
        [UInt8](repeating: 0, count: byteCount).withUnsafeBytes { identity.id(of: $0) }
    }

    /// Visits each chunk of a region that ascending ranges touch. The ranges count from `start`, the start of a chunk.
    private static func forEachChunk(
        _ ranges: [ByteRange], from start: UInt64, _ chunkByteCount: UInt64, _ body: (UInt64) throws -> Void
    ) rethrows {
        var next: UInt64 = 0
        for range in ranges where !range.isEmpty {
            let first = max(next, (start + range.lowerBound) / chunkByteCount)
            next = max(next, (start + range.upperBound - 1) / chunkByteCount + 1)
            guard first < next else { continue }
            for chunk in first..<next { try body(chunk) }
        }
    }
}

/// The hashes over the ids of neighbouring chunks, group by group, in the order of the chunks.
private struct GroupHashes {
    let groupChunkCount: UInt64
    private(set) var hashes: [ContentHash] = []
    /// The current group; `nil` before the first chunk.
    private var group: UInt64?
    private var running = ContentHash.Running()

    init(groupChunkCount: UInt64) { self.groupChunkCount = groupChunkCount }

    /// Whether a chunk begins a group other than the current one.
    func begins(chunk: UInt64) -> Bool { group.map { $0 != chunk / groupChunkCount } ?? false }

    mutating func add(_ id: ContentHash, chunk: UInt64) {
        if begins(chunk: chunk) { finish() }
        group = chunk / groupChunkCount
        running.update(id)
    }

    mutating func finish() {
        guard group != nil else { return }
        hashes.append(running.finish())
        running = ContentHash.Running()
        group = nil
    }

    /// Whether the last hash equals the one in `other`.
    func agreesSoFar(with other: GroupHashes) -> Bool {
        guard let last = hashes.last else { return true }
        return hashes.count <= other.hashes.count && other.hashes[hashes.count - 1] == last
    }
}
