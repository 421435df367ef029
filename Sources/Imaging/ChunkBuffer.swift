// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import LinuxSystem
import Synchronization

/// The memory of one chunk on its way through the pipeline: its content, and what is stored of it.
///
/// One thread at a time has it; whoever passes it on lets go of it.
final class ChunkBuffer: @unchecked Sendable {
    /// The content, aligned to pages (as O_DIRECT wants it).
    let content: UnsafeMutableRawBufferPointer
    /// Room for what is stored of it.
    let stored: UnsafeMutableRawBufferPointer

    private let memory: UnsafeMutableRawBufferPointer

    init(chunkByteCount: Int) throws(SystemCallError) {
        // One piece for both: two that are shorter than a huge page would get none.
        let storedOffset = (chunkByteCount + 4095) & ~4095
        memory = try LargeMemory.allocate(byteCount: storedOffset + ChunkCoding.bound(chunkByteCount))
        content = UnsafeMutableRawBufferPointer(rebasing: memory[..<chunkByteCount])
        stored = UnsafeMutableRawBufferPointer(rebasing: memory[storedOffset...])
    }

    deinit { LargeMemory.release(memory) }
}

/// A fixed number of buffers: it bounds the memory of a pipeline, and with it how far its front can run ahead.
final class ChunkBufferPool: Sendable {
    private let free: BoundedQueue<ChunkBuffer>

    /// What each worker needs beside: its stack, and the context of its codec.
    private static let workerByteCount = 16 << 20
    /// What everything else may need.
    private static let reserveByteCount = 16 << 20

    init(workers: Int, chunkByteCount: Int) throws(SystemCallError) {
        try Self.requireMemory(workers: workers, chunkByteCount: chunkByteCount)
        let count = Self.count(workers: workers, chunkByteCount: chunkByteCount)
        free = BoundedQueue(capacity: count)
        for _ in 0..<count { free.push(try ChunkBuffer(chunkByteCount: chunkByteCount)) }
    }

    /// Fails where a limit of this process leaves too little memory for a pipeline.
    static func requireMemory(workers: Int, chunkByteCount: Int) throws(SystemCallError) {
        let buffers = count(workers: workers, chunkByteCount: chunkByteCount) * 2 * chunkByteCount
        try LargeMemory.require(byteCount: buffers + workers * workerByteCount + reserveByteCount)
    }

    /// The number of buffers for so many workers: one each, one being read, one being written, one waiting; less where
    /// chunks are so large that memory would pass some 160 MiB.
    static func count(workers: Int, chunkByteCount: Int) -> Int {
        max(3, min(workers + 3, (160 << 20) / (2 * chunkByteCount)))
    }

    /// A free buffer, waiting for one; `nil` once the pipeline ends.
    func take() -> ChunkBuffer? { free.pop() }
    /// Gives a buffer back.
    func give(_ buffer: ChunkBuffer) { free.push(buffer) }
    /// Wakes everybody who waits: the pipeline ends.
    func cancel() { free.cancel() }
}

/// The first failure of a pipeline; it ends the others' work.
final class Failure: Sendable {
    private let error = Mutex<(any Error)?>(nil)

    /// The error, where there is one.
    var first: (any Error)? { error.withLock { $0 } }
    /// Notes an error; only the first counts.
    func note(_ new: any Error) { error.withLock { $0 = $0 ?? new } }
}
