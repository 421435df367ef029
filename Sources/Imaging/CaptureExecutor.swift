// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem

/// Executes a capture: worker threads read, mask, test, hash, compress and seal; the calling thread writes in order.
package struct CaptureExecutor: Sendable {
    /// The result of a capture.
    package struct Outcome: Sendable {
        /// Bytes read from the disk.
        package var readByteCount: UInt64
        /// The stored image or snapshot.
        package var summary: ImageSummary
        /// Ranges of the disk that could not be read, and are stored as zeros.
        package var unreadable: [ByteRange]
    }

    private enum Result: Sendable {
        case data(ChunkRecord, ChunkBuffer?)
        case run(RangeKind, region: Int, range: ByteRange)
    }
    private struct Results {
        var byOrdinal: [Int: Result] = [:]
        var count: Int?
        var isEnded = false
    }

    private let source: any BlockReader
    private let plan: CapturePlan
    private let progress: Progress
    private let workers: Int
    private let clock: @Sendable () -> Int64

    /// Prepares a capture.
    /// - Parameter clock: seconds since 1970, for the end of the capture.
    package init(
        source: any BlockReader, plan: CapturePlan, progress: Progress, workers: Int = SystemFacts.processorCount(),
        clock: @escaping @Sendable () -> Int64 = SystemFacts.unixSeconds
    ) {
        self.clock = clock
        self.source = source
        self.plan = plan
        self.progress = progress
        self.workers = max(1, workers)
    }

    /// Captures into `sink`, up to its last byte.
    /// - Parameters:
    ///   - beforeEnd: runs after the last read, before anything is published: an error that it throws ends the capture.
    ///   - facts: the late facts; `nil` for a capture that ends now. A copy keeps those of its source.
    package func run(
        _ sink: any ImageWriter, beforeEnd: () throws -> Void = {}, facts: (() -> LateFacts)? = nil
    ) throws(ImagingError) -> Outcome {
        let chunkByteCount = plan.header.manifest.chunkByteCount
        let pool: ChunkBufferPool
        do { pool = try ChunkBufferPool(workers: workers, chunkByteCount: chunkByteCount) } catch {
            throw ImagingError(error)
        }
        let walk = Monitor(ChunkWalk(plan.header))
        let results = Monitor(Results())
        let failure = Failure()
        let end: @Sendable () -> Void = {
            pool.cancel()
            results.update { $0.isEnded = true }
        }
        progress.begin("capture", total: plan.usedByteCount)
        do {
            var threads: [WorkerThread] = []
            defer {
                end()
                for thread in threads { thread.join() }
            }
            for _ in 0..<workers {
                threads.append(
                    try WorkerThread {
                        do { try work(walk, sink, pool, results) } catch {
                            failure.note(error)
                            end()
                        }
                    })
            }
            try write(sink, pool, results, failure)
            try beforeEnd()
            let unreadable = (source as? RescueReader)?.unreadable.ranges ?? []
            let ending =
                facts?() ?? LateFacts(ended: SystemFacts.utcText(clock()), unreadable: unreadable)
            let summary = try sink.finish(ending)
            return Outcome(readByteCount: plan.usedByteCount, summary: summary, unreadable: unreadable)
        } catch {
            throw ImagingError(error)
        }
    }

    /// A worker: takes the next chunk in order of place, reads it, and encodes it.
    ///
    /// Each worker reads for itself, so that the data it hashes next is still in its processor's cache. A worker takes
    /// a buffer before it takes a number, so that the writer never waits for a chunk that waits for a buffer.
    private func work(
        _ walk: Monitor<ChunkWalk>, _ sink: any ImageWriter, _ pool: ChunkBufferPool, _ results: Monitor<Results>
    ) throws {
        let encoder = try ChunkEncoder(sink.coding)
        let identity = sink.coding.identity
        while let buffer = pool.take() {
            if Interruption.isRequested { throw ImagingError.interrupted(Interruption.name) }
            let (step, ordinal) = walk.update { walk in (walk.next(), walk.count - 1) }
            guard let step else {
                results.update { $0.count = ordinal + 1 }
                pool.give(buffer)
                return
            }
            let used: [Range<Int>]
            switch step.content {
            case .unused:
                pool.give(buffer)
                results.update { $0.byOrdinal[ordinal] = .run(.unused, region: step.region, range: step.range) }
                continue
            case .used(let ranges): used = ranges
            }
            try read(used, at: step.range.lowerBound, into: buffer)
            let content = UnsafeMutableRawBufferPointer(rebasing: buffer.content[..<Int(step.range.byteCount)])
            ChunkMask.zeroUnused(content, used: used)
            if ZeroTest.isZero(UnsafeRawBufferPointer(content)) {
                pool.give(buffer)
                results.update { $0.byOrdinal[ordinal] = .run(.zero, region: step.region, range: step.range) }
            } else {
                let id = identity.id(of: UnsafeRawBufferPointer(content))
                var record = ChunkRecord(
                    kind: .data, region: step.region, range: step.range, storedByteCount: 0, hash: id)
                if try sink.holds(id) {
                    pool.give(buffer)
                    results.update { $0.byOrdinal[ordinal] = .data(record, nil) }
                } else {
                    record.storedByteCount = try encoder.encode(
                        UnsafeRawBufferPointer(content), id: id, into: buffer.stored)
                    results.update { $0.byOrdinal[ordinal] = .data(record, buffer) }
                }
            }
            progress.advance(used.reduce(0) { $0 + UInt64($1.count) })
        }
    }

    /// Reads the used ranges of one chunk. Ranges with little between them are read in one call; the bytes between them
    /// are masked later. If such a call fails, each range is read separately.
    private func read(_ used: [Range<Int>], at offset: UInt64, into buffer: ChunkBuffer) throws(BlockIOError) {
        let nearby = 128 << 10
        var index = 0
        while index < used.count {
            var end = index
            // A rescue reader records unreadable places: it must be asked for used ranges only.
            while !(source is RescueReader), end + 1 < used.count,
                used[end + 1].lowerBound - used[end].upperBound <= nearby
            { end += 1 }
            let span = used[index].lowerBound..<used[end].upperBound
            do {
                try source.read(
                    into: UnsafeMutableRawBufferPointer(rebasing: buffer.content[span]),
                    at: offset + UInt64(span.lowerBound))
            } catch {
                if index == end { throw error }
                for range in used[index...end] {
                    try source.read(
                        into: UnsafeMutableRawBufferPointer(rebasing: buffer.content[range]),
                        at: offset + UInt64(range.lowerBound))
                }
            }
            index = end + 1
        }
        for (place, bytes) in plan.patches {
            // A patch can cross the boundary of a chunk.
            let chunk = offset..<offset + UInt64(buffer.content.count)
            let part = (place..<place + UInt64(bytes.count)).clamped(to: chunk)
            guard !part.isEmpty else { continue }
            let from = Int(part.lowerBound - place)
            UnsafeMutableRawBufferPointer(
                rebasing: buffer.content[Int(part.lowerBound - offset)..<Int(part.upperBound - offset)]
            ).copyBytes(from: bytes[from..<from + Int(part.byteCount)])
        }
    }

    /// The writer: appends in order of place, and joins neighbouring runs of one kind.
    private func write(
        _ sink: any ImageWriter, _ pool: ChunkBufferPool, _ results: Monitor<Results>, _ failure: Failure
    ) throws {
        var pending: (kind: RangeKind, region: Int, range: ByteRange)?
        func flushRun() throws {
            if let run = pending { try sink.appendRun(run.kind, region: run.region, range: run.range) }
            pending = nil
        }
        var ordinal = 0
        while true {
            let number = ordinal
            let next: Result?? = results.wait { state in
                if let result = state.byOrdinal.removeValue(forKey: number) { return .some(.some(result)) }
                return state.isEnded || state.count == number ? .some(.none) : nil
            }
            if let error = failure.first { throw error }
            guard let result = next ?? nil else { break }
            ordinal += 1
            switch result {
            case .run(let kind, let region, let range):
                if let run = pending, run.kind == kind, run.region == region, run.range.upperBound == range.lowerBound {
                    pending = (kind, region, run.range.lowerBound..<range.upperBound)
                } else {
                    try flushRun()
                    pending = (kind, region, range)
                }
            case .data(let record, let buffer):
                try flushRun()
                let stored = buffer.map {
                    UnsafeRawBufferPointer(
                        rebasing: UnsafeRawBufferPointer($0.stored)[..<record.storedByteCount])
                }
                try sink.append(record, stored: stored)
                if let buffer { pool.give(buffer) }
            }
            if Interruption.isRequested { throw ImagingError.interrupted(Interruption.name) }
        }
        if let error = failure.first { throw error }
        try flushRun()
    }
}

/// The regions' chunk grids in order of place.
struct ChunkWalk {
    /// A chunk, or a run of unused chunks.
    struct Step {
        enum Content {
            case unused
            /// The used bytes, relative to the chunk's start.
            case used([Range<Int>])
        }
        var region: Int
        /// Where it lies on the disk.
        var range: ByteRange
        var content: Content
    }

    private let header: ImageHeader
    private let chunk: UInt64
    private var region = 0
    private var position: UInt64 = 0
    /// The number of steps taken.
    private(set) var count = 0

    init(_ header: ImageHeader) {
        self.header = header
        chunk = UInt64(header.manifest.chunkByteCount)
        position = header.manifest.regions.first?.range.lowerBound ?? 0
    }

    /// The next step; `nil` at the end of the disk.
    mutating func next() -> Step? {
        let regions = header.manifest.regions
        while region < regions.count, position >= regions[region].range.upperBound {
            region += 1
            if region < regions.count { position = regions[region].range.lowerBound }
        }
        guard region < regions.count else { return nil }
        let whole = regions[region].range
        let map = header.maps[region]
        let start = position - whole.lowerBound
        let range = position..<min(position + chunk, whole.upperBound)
        let used = map.ranges(in: start..<start + range.byteCount)
        count += 1
        guard used.isEmpty else {
            position = range.upperBound
            return Step(
                region: region, range: range,
                content: .used(used.map { Int($0.lowerBound - start)..<Int($0.upperBound - start) }))
        }
        // Skip to the chunk with the next used byte: a disk can have millions of unused chunks.
        let next = map.firstUsed(from: start).map { $0 - $0 % chunk } ?? whole.byteCount
        let run = position..<whole.lowerBound + next
        position = run.upperBound
        return Step(region: region, range: run, content: .unused)
    }
}

/// Unused bytes of a chunk count as zero, in the hash and in the stored data.
enum ChunkMask {
    /// Zeroes everything outside `used` (ascending).
    static func zeroUnused(_ content: UnsafeMutableRawBufferPointer, used: [Range<Int>]) {
        var position = 0
        for range in used + [content.count..<content.count] {
            if position < range.lowerBound {
                UnsafeMutableRawBufferPointer(rebasing: content[position..<range.lowerBound]).initializeMemory(
                    as: UInt8.self, repeating: 0)
            }
            position = range.upperBound
        }
    }
}
