// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageStore
import LinuxSystem

/// Carries out a capture: one thread reads, some mask, test, hash and compress, and the caller's writes in order.
public struct CaptureExecutor: Sendable {
    /// What a capture did.
    public struct Outcome: Sendable {
        /// Bytes read from the disk.
        public var readByteCount: UInt64
        /// The length of the image in bytes.
        public var imageByteCount: UInt64
        /// The image's id.
        public var imageID: ContentHash
    }

    private struct Job: Sendable {
        var ordinal: Int
        var region: Int
        var range: ByteRange
        /// The bytes in use, relative to the chunk's start.
        var used: [Range<Int>]
        var buffer: ChunkBuffer
    }
    private enum Result: Sendable {
        case data(ChunkRecord, ChunkBuffer)
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

    /// Prepares a capture.
    public init(
        source: any BlockReader, plan: CapturePlan, progress: Progress, workers: Int = SystemFacts.processorCount()
    ) {
        self.source = source
        self.plan = plan
        self.progress = progress
        self.workers = max(1, workers)
    }

    /// Captures into `writer`, up to its last frame.
    public func run(_ writer: ImageWriter) throws(ImagingError) -> Outcome {
        let chunkByteCount = plan.header.manifest.chunkByteCount
        let pool = ChunkBufferPool(
            count: ChunkBufferPool.count(workers: workers, chunkByteCount: chunkByteCount),
            chunkByteCount: chunkByteCount)
        let jobs = BoundedQueue<Job>(capacity: workers + 1)
        let results = Monitor(Results())
        let failure = Failure()
        let end: @Sendable () -> Void = {
            jobs.cancel()
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
            threads.append(
                try WorkerThread {
                    do {
                        let count = try read(pool, jobs, results)
                        results.update { $0.count = count }
                        jobs.close()
                    } catch {
                        failure.note(error)
                        end()
                    }
                })
            for _ in 0..<workers {
                threads.append(
                    try WorkerThread {
                        do { try work(jobs, pool, results) } catch {
                            failure.note(error)
                            end()
                        }
                    })
            }
            try write(writer, pool, results, failure)
            let footer = try writer.finish(LateFacts(ended: SystemFacts.utcText(SystemFacts.unixSeconds())))
            return Outcome(
                readByteCount: plan.usedByteCount, imageByteCount: writer.byteCount, imageID: footer.imageID)
        } catch {
            throw ImagingError(error)
        }
    }

    /// The reader: walks the regions' chunk grids and reads what is in use.
    /// - Returns: the number of ordinals given out.
    private func read(
        _ pool: ChunkBufferPool, _ jobs: BoundedQueue<Job>, _ results: Monitor<Results>
    ) throws -> Int {
        var ordinal = 0
        let chunk = UInt64(plan.header.manifest.chunkByteCount)
        for (index, region) in plan.header.manifest.regions.enumerated() {
            let map = plan.header.maps[index]
            var unusedStart = region.range.lowerBound
            func flushUnused(upTo end: UInt64) {
                guard unusedStart < end else { return }
                let range = unusedStart..<end
                let number = ordinal
                results.update { $0.byOrdinal[number] = .run(.unused, region: index, range: range) }
                ordinal += 1
            }
            var position = region.range.lowerBound
            while position < region.range.upperBound {
                let range = position..<min(position + chunk, region.range.upperBound)
                position = range.upperBound
                let used = map.ranges(
                    in: range.lowerBound - region.range.lowerBound..<range.upperBound - region.range.lowerBound)
                if used.isEmpty { continue }
                flushUnused(upTo: range.lowerBound)
                unusedStart = range.upperBound
                if Interruption.isRequested { throw ImagingError.interrupted(Interruption.name) }
                guard let buffer = pool.take() else { return ordinal }
                let base = range.lowerBound - region.range.lowerBound
                let relative = used.map { Int($0.lowerBound - base)..<Int($0.upperBound - base) }
                try read(relative, at: range.lowerBound, into: buffer)
                guard jobs.push(Job(ordinal: ordinal, region: index, range: range, used: relative, buffer: buffer))
                else {
                    return ordinal
                }
                ordinal += 1
            }
            flushUnused(upTo: region.range.upperBound)
        }
        return ordinal
    }

    /// Reads the ranges in use of one chunk. Ranges with little between them are read in one call: what lies between
    /// is masked later. Where such a call fails, it is made again for each range alone.
    private func read(_ used: [Range<Int>], at offset: UInt64, into buffer: ChunkBuffer) throws(BlockIOError) {
        let nearby = 128 << 10
        var index = 0
        while index < used.count {
            var end = index
            while end + 1 < used.count, used[end + 1].lowerBound - used[end].upperBound <= nearby { end += 1 }
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
        for (place, bytes) in plan.patches where place >= offset && place - offset < UInt64(buffer.content.count) {
            let start = Int(place - offset)
            let count = min(bytes.count, buffer.content.count - start)
            UnsafeMutableRawBufferPointer(rebasing: buffer.content[start..<start + count]).copyBytes(
                from: bytes[..<count])
        }
    }

    /// A worker: makes records and frames.
    private func work(_ jobs: BoundedQueue<Job>, _ pool: ChunkBufferPool, _ results: Monitor<Results>) throws {
        let compressor = try ZstdCompressor(level: plan.header.manifest.level)
        while let job = jobs.pop() {
            let byteCount = Int(job.range.byteCount)
            let content = UnsafeMutableRawBufferPointer(rebasing: job.buffer.content[..<byteCount])
            ChunkMask.zeroUnused(content, used: job.used)
            let usedByteCount = job.used.reduce(0) { $0 + $1.count }
            if ZeroTest.isZero(UnsafeRawBufferPointer(content)) {
                pool.give(job.buffer)
                results.update { $0.byOrdinal[job.ordinal] = .run(.zero, region: job.region, range: job.range) }
            } else {
                let hash = ContentHash(of: UnsafeRawBufferPointer(content))
                let frameStart = ImageFormat.recordFrameByteCount
                let frameByteCount = try compressor.compress(
                    UnsafeRawBufferPointer(content),
                    into: UnsafeMutableRawBufferPointer(rebasing: job.buffer.stored[frameStart...]))
                let record = ChunkRecord(
                    kind: .data, region: job.region, range: job.range, storedByteCount: frameByteCount, hash: hash)
                UnsafeMutableRawBufferPointer(rebasing: job.buffer.stored[..<frameStart]).copyBytes(from: record.frame)
                results.update { $0.byOrdinal[job.ordinal] = .data(record, job.buffer) }
            }
            progress.advance(UInt64(usedByteCount))
        }
    }

    /// The writer: in order of place, with neighbouring runs of a kind made one.
    private func write(
        _ writer: ImageWriter, _ pool: ChunkBufferPool, _ results: Monitor<Results>, _ failure: Failure
    ) throws {
        var pending: (kind: RangeKind, region: Int, range: ByteRange)?
        func flushRun() throws {
            if let run = pending { try writer.appendRun(run.kind, region: run.region, range: run.range) }
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
                let byteCount = ImageFormat.recordFrameByteCount + record.storedByteCount
                try writer.append(
                    record,
                    frames: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer.stored)[..<byteCount]))
                pool.give(buffer)
            }
            if Interruption.isRequested { throw ImagingError.interrupted(Interruption.name) }
        }
        if let error = failure.first { throw error }
        try flushRun()
    }
}

/// Bytes of a chunk that are not in use count as zero: for the hash, and for what is stored.
enum ChunkMask {
    /// Makes everything outside `used` (ascending) zero.
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
