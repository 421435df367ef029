// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import Synchronization

/// Runs a body at an interval on a dedicated thread until it is stopped.
package final class PeriodicThread: Sendable {
    /// A flag with a condition variable, on the monotonic clock.
    private final class Stop: @unchecked Sendable {
        // @unchecked: `isSet` is touched only between lock and unlock.
        private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
        private var isSet = false

        init() {
            pthread_mutex_init(mutex, nil)
            var attributes = pthread_condattr_t()
            pthread_condattr_init(&attributes)
            pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
            pthread_cond_init(changed, &attributes)
            pthread_condattr_destroy(&attributes)
        }

        deinit {
            pthread_cond_destroy(changed)
            pthread_mutex_destroy(mutex)
            changed.deallocate()
            mutex.deallocate()
        }

        func set() {
            pthread_mutex_lock(mutex)
            isSet = true
            pthread_cond_broadcast(changed)
            pthread_mutex_unlock(mutex)
        }

        /// Waits for the given time or until the flag is set; whether it is set.
        func wait(seconds: Double) -> Bool {
            var deadline = timespec()
            clock_gettime(CLOCK_MONOTONIC, &deadline)
            let nanoseconds = deadline.tv_nsec + Int((seconds - seconds.rounded(.down)) * 1e9)
            deadline.tv_sec += Int(seconds) + nanoseconds / 1_000_000_000
            deadline.tv_nsec = nanoseconds % 1_000_000_000
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            while !isSet {
                if pthread_cond_timedwait(changed, mutex, &deadline) == ETIMEDOUT { break }
            }
            return isSet
        }
    }
    private let stopping = Stop()
    private let isStopped = Atomic(false)
    private let thread: WorkerThread

    /// Runs `body` after every `seconds`.
    package init(every seconds: Double, _ body: @escaping @Sendable () -> Void) throws(SystemCallError) {
        let stopping = stopping
        thread = try WorkerThread { while !stopping.wait(seconds: seconds) { body() } }
    }

    /// Stops the thread and waits for its end. Must not be called by the body.
    package func stop() {
        guard !isStopped.exchange(true, ordering: .relaxed) else { return }
        stopping.set()
        thread.join()
    }

    deinit { stop() }
}
