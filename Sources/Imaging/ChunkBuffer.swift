// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import LinuxSystem
import Synchronization

/// The memory of one chunk on its way through the pipeline: its content, and its stored form.
///
/// One thread at a time owns it; passing it on ends the ownership.
final class ChunkBuffer: @unchecked Sendable {
    /// The content, aligned to pages (as O_DIRECT wants it).
    let content: UnsafeMutableRawBufferPointer
    /// Space for its stored form.
    let stored: UnsafeMutableRawBufferPointer

    private let memory: UnsafeMutableRawBufferPointer

    init(chunkByteCount: Int) throws(SystemCallError) {
        // One allocation for both: two that are shorter than a huge page would get none.
        let storedOffset = (chunkByteCount + 4095) & ~4095
        memory = try LargeMemory.allocate(byteCount: storedOffset + ChunkCoding.bound(chunkByteCount))
        content = UnsafeMutableRawBufferPointer(rebasing: memory[..<chunkByteCount])
        stored = UnsafeMutableRawBufferPointer(rebasing: memory[storedOffset...])
    }

    deinit { LargeMemory.release(memory) }
}

/// A fixed number of buffers, which bounds the memory of a pipeline and how far its front can run ahead.
final class ChunkBufferPool: Sendable {
    private let free: BoundedQueue<ChunkBuffer>

    /// The memory of each worker besides its buffer: its stack, and the context of its codec.
    private static let workerByteCount = 16 << 20
    /// The memory of everything else.
    private static let reserveByteCount = 16 << 20

    init(workers: Int, chunkByteCount: Int) throws(SystemCallError) {
        try Self.requireMemory(workers: workers, chunkByteCount: chunkByteCount)
        let count = Self.count(workers: workers, chunkByteCount: chunkByteCount)
        free = BoundedQueue(capacity: count)
        for _ in 0..<count { free.push(try ChunkBuffer(chunkByteCount: chunkByteCount)) }
    }

    /// Fails if a limit of this process leaves too little memory for a pipeline.
    static func requireMemory(workers: Int, chunkByteCount: Int) throws(SystemCallError) {
        let buffers = count(workers: workers, chunkByteCount: chunkByteCount) * 2 * chunkByteCount
        try LargeMemory.require(byteCount: buffers + workers * workerByteCount + reserveByteCount)
    }

    /// The number of buffers for `workers`: one each, one being read, one being written, one waiting; fewer if chunks
    /// are so large that the memory would exceed some 160 MiB.
    static func count(workers: Int, chunkByteCount: Int) -> Int {
        max(3, min(workers + 3, (160 << 20) / (2 * chunkByteCount)))
    }

    /// Waits for a free buffer; `nil` once the pipeline ends.
    func take() -> ChunkBuffer? { free.pop() }
    /// Gives a buffer back.
    func give(_ buffer: ChunkBuffer) { free.push(buffer) }
    /// Ends the pipeline, and wakes all waiting threads.
    func cancel() { free.cancel() }
}

/// The first failure of a pipeline, which ends the work of its other threads.
final class Failure: Sendable {
    private let error = Mutex<(any Error)?>(nil)

    /// The error; `nil` without a failure.
    var first: (any Error)? { error.withLock { $0 } }
    /// Notes an error; only the first counts.
    func note(_ new: any Error) { error.withLock { $0 = $0 ?? new } }
}
