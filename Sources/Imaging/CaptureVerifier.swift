// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageModel
import LinuxSystem

/// Reads a whole capture and checks everything: header, every record, every chunk, and the end.
package enum CaptureVerifier {
    /// The result of a verification.
    package struct Outcome: Sendable {
        /// The number of chunks of data.
        package var chunkCount: Int
        /// The bytes of data in them.
        package var dataByteCount: UInt64
        /// The id, and the late facts.
        package var ending: ImageEnding
    }

    private struct Job: Sendable {
        var record: ChunkRecord
        var fileOffset: UInt64
        var used: [Range<Int>]
        var buffer: ChunkBuffer
        /// Reads the stored data; `nil` if the buffer holds it already.
        var fetch: StoredFetch?
        /// Other copies of the content.
        var otherCopies: OtherCopies?
    }

    /// Verifies a capture from its first record to its end.
    /// - Parameter cancellation: ends that between two records.
    /// - Throws: `ImagingError.image` for the first bad range in order of place.
    package static func verify(
        _ image: any ImageReader, progress: Progress, cancellation: Cancellation = Cancellation(),
        workers: Int = SystemFacts.processorCount()
    ) throws(ImagingError) -> Outcome {
        let (chunkCount, dataByteCount) = try readAll(image, progress, cancellation, workers)
        guard let ending = image.ending else { throw .failed("the image was not read to its end") }
        return Outcome(chunkCount: chunkCount, dataByteCount: dataByteCount, ending: ending)
    }

    /// Reads a whole capture, and collects its losses.
    /// - Parameter cancellation: ends the read between two records.
    package static func losses(
        of image: any ImageReader, progress: Progress, cancellation: Cancellation = Cancellation(),
        workers: Int = SystemFacts.processorCount()
    ) throws(ImagingError) -> Salvage {
        let salvage = Salvage()
        _ = try readAll(SalvageReader(image, salvage), progress, cancellation, workers)
        return salvage
    }

    /// The state that the reading thread shares with the checking threads.
    private struct Pipeline: Sendable {
        let pool: ChunkBufferPool
        let jobs: BoundedQueue<Job>
        /// Workers finish out of order: of several bad chunks, the first in order of place counts.
        let failures = Monitor<[(offset: UInt64, error: any Error)]>([])
        let progress: Progress
        let cancellation: Cancellation

        /// Ends the pipeline, and wakes all waiting threads.
        func cancel() {
            pool.cancel()
            jobs.cancel()
        }
    }

    private static func readAll(
        _ image: any ImageReader, _ progress: Progress, _ cancellation: Cancellation, _ workers: Int
    ) throws(ImagingError) -> (chunkCount: Int, dataByteCount: UInt64) {
        let manifest = image.header.manifest
        let pool: ChunkBufferPool
        do { pool = try ChunkBufferPool(workers: workers, chunkByteCount: manifest.chunkByteCount) } catch {
            throw ImagingError(error)
        }
        let pipeline = Pipeline(
            pool: pool, jobs: BoundedQueue(capacity: workers + 1), progress: progress, cancellation: cancellation)
        progress.begin("verify", total: manifest.usedByteCount)
        let coding = image.coding
        do {
            var threads: [WorkerThread] = []
            defer {
                pipeline.cancel()
                for thread in threads { thread.join() }
            }
            let (describe, salvage) = (image.damageReporter, image.salvage)
            for _ in 0..<workers {
                threads.append(try WorkerThread { work(pipeline, coding, salvage, describe) })
            }
            var counts = (chunkCount: 0, dataByteCount: UInt64(0))
            var ending: (any Error)?
            do { counts = try feed(pipeline, image) } catch { ending = error }
            pipeline.jobs.close()
            for thread in threads { thread.join() }
            threads = []
            if let first = pipeline.failures.update({ $0.min { $0.offset < $1.offset } }) { throw first.error }
            if let ending { throw ending }
            return counts
        } catch {
            throw ImagingError(error)
        }
    }

    /// Reads all records and queues the chunks, until a check fails.
    private static func feed(
        _ pipeline: Pipeline, _ image: any ImageReader
    ) throws -> (chunkCount: Int, dataByteCount: UInt64) {
        let manifest = image.header.manifest
        var chunkCount = 0
        var dataByteCount: UInt64 = 0
        while let record = try image.nextRecord() {
            try pipeline.cancellation.check()
            if pipeline.failures.update({ !$0.isEmpty }) { break }
            let start = record.range.lowerBound - manifest.regions[record.region].range.lowerBound
            let used = image.header.maps[record.region].ranges(in: start..<start + record.range.byteCount)
            guard record.kind == .data else {
                pipeline.progress.advance(used.reduce(0) { $0 + $1.byteCount })
                continue
            }
            guard let buffer = pipeline.pool.take() else { break }
            let fileOffset = image.position
            let fetch = image.storedFetch()
            if fetch == nil {
                try image.readStored(
                    into: UnsafeMutableRawBufferPointer(rebasing: buffer.stored[..<record.storedByteCount]))
            }
            chunkCount += 1
            dataByteCount += record.range.byteCount
            pipeline.jobs.push(
                Job(
                    record: record, fileOffset: fileOffset,
                    used: used.map { Int($0.lowerBound - start)..<Int($0.upperBound - start) }, buffer: buffer,
                    fetch: fetch, otherCopies: image.otherCopies()))
        }
        return (chunkCount, dataByteCount)
    }

    /// One thread: checks chunks until no more come.
    private static func work(
        _ pipeline: Pipeline, _ coding: ChunkCoding, _ salvage: Salvage?,
        _ describe: (String, UInt64, ByteRange?) -> ImageError
    ) {
        do {
            let decoder = try ChunkDecoder(coding)
            while let job = pipeline.jobs.pop() {
                do { try check(job, decoder, salvage, describe) } catch {
                    pipeline.failures.update { $0.append((job.fileOffset, error)) }
                }
                pipeline.progress.advance(job.used.reduce(0) { $0 + UInt64($1.count) })
                pipeline.pool.give(job.buffer)
            }
        } catch {
            pipeline.failures.update { $0.append((0, error)) }
            pipeline.cancel()
        }
    }

    private static func check(
        _ job: Job, _ decoder: ChunkDecoder, _ salvage: Salvage?,
        _ damaged: (String, UInt64, ByteRange?) -> ImageError
    ) throws {
        let content = try job.record.content(
            in: job.buffer, decoder, fetch: job.fetch, otherCopies: job.otherCopies, salvage: salvage
        ) { damaged($0, job.fileOffset, job.record.range) }
        // A capture zeroes unused bytes before it hashes: any other byte there did not come from a capture.
        var position = 0
        for range in job.used + [content.count..<content.count] {
            if position < range.lowerBound,
                !ZeroTest.isZero(UnsafeRawBufferPointer(rebasing: content[position..<range.lowerBound]))
            {
                let error = damaged("a chunk holds bytes where its map has none", job.fileOffset, job.record.range)
                guard let salvage else { throw error }
                // The used bytes are right: nothing is lost.
                salvage.note(error)
            }
            position = range.upperBound
        }
    }
}
