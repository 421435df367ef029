// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageModel
import LinuxSystem

/// The work of each restore thread on chunks: decompress, check, write.
struct RestoreWorker: Sendable {
    struct Job: Sendable {
        var ordinal: Int
        var record: ChunkRecord
        var fileOffset: UInt64
        /// The buffer of a data record; a run needs none.
        var buffer: ChunkBuffer?
        /// Reads the stored data; `nil` if the buffer holds it already.
        var fetch: StoredFetch?
        /// Other copies of the content.
        var otherCopies: OtherCopies?
        /// The region that the chunk belongs to.
        var region: PlacedRegion
        /// The start of the chunk in the region, in bytes.
        var start: UInt64
        /// The used bytes, relative to the chunk's start.
        var used: [ByteRange]
        /// Whether the target may hold the chunk already: then the target is read and compared first.
        var isExpected: Bool
    }
    struct Completion {
        /// The finished ordinals beyond `next`, with the ends of their records.
        var done: [Int: UInt64] = [:]
        /// All ordinals before this one are done.
        var next = 0
        /// The end of the last of them on the captured disk.
        var position: UInt64 = 0
        /// The number of bytes written.
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
    /// Records chunks that cannot be read: zeros are written in their place.
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
                    // In steps: a run can be as long as the disk, and an interruption must be possible in between.
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

    /// Whether the target already holds a chunk. If so, its held-back part goes into the windows. Unreadable sectors
    /// count as different: a disk replaces bad sectors when they are written.
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
    /// The content of a data record, checked against its hash; if a copy is damaged or unreadable, from the next copy.
    /// - Parameters:
    ///   - fetch: reads the stored data; `nil` if `buffer.stored` holds it already.
    ///   - otherCopies: other copies of the content.
    ///   - salvage: records a content that cannot be read, which becomes zeros.
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
