// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem

/// The threads that write what an image holds, and the queue of their work.
final class RestoreCrew {
    private let count: Int
    private let jobs: BoundedQueue<RestoreWorker.Job>
    private let pool: ChunkBufferPool
    private let completion: Monitor<RestoreWorker.Completion>
    private let worker: RestoreWorker
    private let failure = Failure()
    private var threads: [WorkerThread] = []

    /// Prepares the work of a restore; no thread runs yet.
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

    /// Everything before this place of the captured disk is written, in bytes; not flushed yet.
    var position: UInt64 { completion.update { $0.position } }
    /// How many bytes were written.
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

    /// Fails where a thread has failed.
    func check() throws {
        if let error = failure.first { throw error }
    }

    /// Room for a chunk, waiting for it; `nil` where a thread has failed.
    func takeBuffer() -> ChunkBuffer? { pool.take() }

    /// Adds a job, waiting for room; `false` where a thread has failed.
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
