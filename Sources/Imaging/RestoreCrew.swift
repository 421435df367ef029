// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem

/// The threads that write an image's data, and the queue of their work.
final class RestoreCrew {
    private let count: Int
    private let jobs: BoundedQueue<RestoreWorker.Job>
    private let pool: ChunkBufferPool
    private let completion: Monitor<RestoreWorker.Completion>
    private let worker: RestoreWorker
    private let failure = Failure()
    private var threads: [WorkerThread] = []

    /// Creates buffers and queue; no thread runs yet.
    init(_ setup: RestoreSetup, _ image: any ImageReader) throws(SystemCallError) {
        let chunkByteCount = image.header.manifest.chunkByteCount
        let pool = try ChunkBufferPool(workers: setup.workers, chunkByteCount: chunkByteCount)
        let jobs = BoundedQueue<RestoreWorker.Job>(capacity: setup.workers + 1)
        let completion = Monitor(RestoreWorker.Completion())
        worker = RestoreWorker(
            jobs: jobs, pool: pool, completion: completion, progress: setup.progress,
            cancellation: setup.cancellation, damaged: image.damageReporter, coding: image.coding,
            chunkByteCount: UInt64(chunkByteCount), salvage: image.salvage)
        count = setup.workers
        self.jobs = jobs
        self.pool = pool
        self.completion = completion
    }

    /// The position on the captured disk, in bytes, up to which everything is written, but not yet flushed.
    var position: UInt64 { completion.update { $0.position } }
    /// The number of bytes written.
    var writtenByteCount: UInt64 { completion.update { $0.written } }

    func start() throws(SystemCallError) {
        for _ in 0..<count {
            let thread = try WorkerThread { [worker, failure, jobs, pool] in
                do { try worker.run() } catch {
                    failure.note(error)
                    jobs.cancel()
                    pool.cancel()
                }
            }
            threads.append(thread)
        }
    }

    /// Throws the error of a failed thread.
    func check() throws {
        if let error = failure.first { throw error }
    }

    /// Waits for a free buffer; `nil` if a thread has failed.
    func takeBuffer() -> ChunkBuffer? { pool.take() }

    /// Waits for space in the queue, and adds a job; `false` if a thread has failed.
    func push(_ job: RestoreWorker.Job) -> Bool { jobs.push(job) }

    /// Waits until all jobs are done.
    func finish() throws {
        jobs.close()
        join()
        try check()
    }

    /// Drops the jobs that no thread has taken, and waits for the threads.
    func cancel() {
        jobs.cancel()
        pool.cancel()
        join()
    }

    private func join() {
        for thread in threads { thread.join() }
        threads = []
    }
}
