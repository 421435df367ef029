// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageModel
import LinuxSystem

/// What each thread of a restore does with chunks: decompress, check, write.
struct RestoreWorker: Sendable {
    struct Job: Sendable {
        var ordinal: Int
        var record: ChunkRecord
        var fileOffset: UInt64
        /// For data; a run needs none.
        var buffer: ChunkBuffer?
        /// Reads what is stored; `nil` where the buffer holds it already.
        var fetch: StoredFetch?
        /// Where else the content is.
        var otherCopies: OtherCopies?
        /// The region that the chunk belongs to.
        var region: PlacedRegion
        /// Where the chunk starts in it, in bytes.
        var start: UInt64
        /// The bytes in use, relative to the chunk's start.
        var used: [ByteRange]
        /// Whether the target may hold the chunk already: then it is read and compared first.
        var isExpected: Bool
    }
    struct Completion {
        /// Ordinals done, beyond the watermark.
        var done: [Int: UInt64] = [:]
        /// All ordinals before this one are done.
        var next = 0
        /// Where the last of them ended on the captured disk.
        var position: UInt64 = 0
        /// How many bytes were written.
        var written: UInt64 = 0
    }
    let jobs: BoundedQueue<Job>
    let pool: ChunkBufferPool
    let completion: Monitor<Completion>
    let progress: Progress
    let cancellation: Cancellation
    let damaged: @Sendable (String, UInt64, ByteRange?) -> ImageError
    let coding: ChunkCoding
    let chunkByteCount: UInt64
    /// Takes chunks that cannot be had: zeros are written in their place.
    let salvage: Salvage?

    /// Works until there are no more jobs.
    func run() throws {
        let decoder = try ChunkDecoder(coding)
        while let job = jobs.pop() {
            let usedByteCount = job.used.reduce(0) { $0 + $1.byteCount }
            var writtenByteCount = usedByteCount
            if let buffer = job.buffer, job.isExpected, isThere(job, buffer) {
                pool.give(buffer)
                writtenByteCount = 0
            } else if let buffer = job.buffer {
                let content = try job.record.content(
                    in: buffer, decoder, fetch: job.fetch, otherCopies: job.otherCopies, salvage: salvage
                ) { damaged($0, job.fileOffset, job.record.range) }
                for range in job.used {
                    let part = UnsafeRawBufferPointer(rebasing: content[Int(range.lowerBound)..<Int(range.upperBound)])
                    try job.region.write(part, at: job.start + range.lowerBound)
                }
                pool.give(buffer)
            } else {
                writtenByteCount = 0
                for range in job.used {
                    // In steps: a run can be as long as the disk, and an end must be possible in between.
                    let step = job.isExpected ? chunkByteCount : 256 << 20
                    for start in stride(from: range.lowerBound, to: range.upperBound, by: Int(step)) {
                        try cancellation.check()
                        let part = job.start + start..<job.start + min(range.upperBound, start + step)
                        if job.isExpected, job.region.isZero(part) { continue }
                        try job.region.writeZeros(part)
                        writtenByteCount += part.byteCount
                    }
                }
            }
            progress.advance(usedByteCount)
            completion.update { state in
                state.written += writtenByteCount
                state.done[job.ordinal] = job.record.range.upperBound
                while let position = state.done.removeValue(forKey: state.next) {
                    state.position = position
                    state.next += 1
                }
            }
        }
    }

    /// Whether the target already holds a chunk. What of it is held back until the commit is held then. Sectors that
    /// cannot be read hold nothing: writing them is what makes a disk replace them.
    private func isThere(_ job: Job, _ buffer: ChunkBuffer) -> Bool {
        let content = UnsafeMutableRawBufferPointer(rebasing: buffer.content[..<Int(job.record.range.byteCount)])
        let used = job.used.map { Int($0.lowerBound)..<Int($0.upperBound) }
        for range in used {
            let part = UnsafeMutableRawBufferPointer(rebasing: content[range])
            guard (try? job.region.readOriginal(into: part, at: job.start + UInt64(range.lowerBound))) != nil else {
                return false
            }
        }
        ChunkMask.zeroUnused(content, used: used)
        guard job.record.hash == coding.identity.id(of: UnsafeRawBufferPointer(content)) else { return false }
        for range in used {
            job.region.hold(
                UnsafeRawBufferPointer(rebasing: content[range]), at: job.start + UInt64(range.lowerBound))
        }
        return true
    }
}

extension ChunkRecord {
    /// The content of a data record, checked against its hash: from the next copy where one is damaged or cannot be read.
    /// - Parameters:
    ///   - fetch: reads what is stored; `nil` where `buffer.stored` holds it already.
    ///   - otherCopies: where else the content is.
    ///   - salvage: takes a content that cannot be had, which is zeros then.
    func content(
        in buffer: ChunkBuffer, _ decoder: ChunkDecoder, fetch: StoredFetch?, otherCopies: OtherCopies?,
        salvage: Salvage?, error: (String) -> ImageError
    ) throws -> UnsafeRawBufferPointer {
        let content = UnsafeMutableRawBufferPointer(rebasing: buffer.content[..<Int(range.byteCount)])
        let stored = UnsafeMutableRawBufferPointer(rebasing: buffer.stored[..<storedByteCount])
        do {
            try fetch?(stored)
            do { try decoder.decode(UnsafeRawBufferPointer(stored), id: hash, into: content) } catch let failure {
                throw error(failure.description)
            }
        } catch {
            if let otherCopies, otherCopies(content) { return UnsafeRawBufferPointer(content) }
            guard let salvage else { throw error }
            try salvage.lose(range, hash: hash, because: error)
            content.initializeMemory(as: UInt8.self, repeating: 0)
        }
        return UnsafeRawBufferPointer(content)
    }
}
