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
    private let cancellation: Cancellation
    private let workers: Int
    private let clock: @Sendable () -> Int64

    /// - Parameters:
    ///   - cancellation: ends the capture between two chunks.
    ///   - clock: seconds since 1970, for the end of the capture.
    package init(
        source: any BlockReader, plan: CapturePlan, progress: Progress, cancellation: Cancellation = Cancellation(),
        workers: Int = SystemFacts.processorCount(),
        clock: @escaping @Sendable () -> Int64 = SystemFacts.unixSeconds
    ) {
        self.cancellation = cancellation
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
            let unreadable = source.unreadable.ranges
            let ending =
                facts?() ?? LateFacts(ended: SystemFacts.utcText(clock()), unreadable: unreadable)
            let summary = try sink.finish(ending)
            return Outcome(readByteCount: plan.usedByteCount, summary: summary, unreadable: unreadable)
        } catch {
            throw ImagingError(error)
        }
    }

    /// A worker: takes the next chunk by offset, reads it, and encodes it.
    ///
    /// Each worker reads its own chunks, so that the data is still in its processor's cache for the hash. A worker
    /// takes a buffer before a number, so that the writer never waits for a chunk that waits for a buffer.
    private func work(
        _ walk: Monitor<ChunkWalk>, _ sink: any ImageWriter, _ pool: ChunkBufferPool, _ results: Monitor<Results>
    ) throws {
        let encoder = try ChunkEncoder(sink.coding)
        let chunks = PlannedChunks(plan, of: source)
        let identity = sink.coding.identity
        while let buffer = pool.take() {
            try cancellation.check()
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
            let content = UnsafeMutableRawBufferPointer(rebasing: buffer.content[..<Int(step.range.byteCount)])
            try chunks.read(used, at: step.range.lowerBound, into: content)
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

    /// The writer: writes records by offset, and joins adjacent runs of one kind.
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
            try cancellation.check()
        }
        if let error = failure.first { throw error }
        try flushRun()
    }
}
