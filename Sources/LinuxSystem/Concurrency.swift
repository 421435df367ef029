// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import Synchronization
import SystemPackage

/// A dedicated thread for blocking work.
package final class WorkerThread: Sendable {
    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
    private let thread: pthread_t
    private let isJoined = Atomic(false)

    /// Starts `body` on a new thread.
    package init(_ body: @escaping @Sendable () -> Void) throws(SystemCallError) {
        var thread = pthread_t()
        let context = Unmanaged.passRetained(Body(body))
        let result = pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run()
                return nil
            }, context.toOpaque())
        guard result == 0 else {
            context.release()
            throw SystemCallError("start", "a thread", .init(rawValue: result))
        }
        self.thread = thread
    }

    /// Waits until the body has returned. Must be called exactly once: a second wait would be for another thread that
    /// has reused the same memory, or would never end.
    package func join() {
        precondition(!isJoined.exchange(true, ordering: .relaxed), "a thread is joined twice")
        pthread_join(thread, nil)
    }
}

/// State guarded by a lock, with a condition for waiting threads.
package final class Monitor<State>: @unchecked Sendable {
    // @unchecked: `state` is touched only between lock and unlock.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var state: State

    /// Guards `state`.
    package init(_ state: sending State) {
        self.state = state
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    /// Runs `body` under the lock, then wakes all waiting threads.
    package func update<Result>(_ body: (inout State) throws -> Result) rethrows -> Result {
        pthread_mutex_lock(mutex)
        defer {
            pthread_cond_broadcast(changed)
            pthread_mutex_unlock(mutex)
        }
        return try body(&state)
    }

    /// Waits until `body` returns a value; `body` runs again after each change.
    package func wait<Result>(until body: (inout State) -> Result?) -> Result {
        pthread_mutex_lock(mutex)
        defer {
            pthread_cond_broadcast(changed)
            pthread_mutex_unlock(mutex)
        }
        while true {
            if let result = body(&state) { return result }
            pthread_cond_wait(changed, mutex)
        }
    }
}

/// A queue of fixed capacity: producers wait while it is full.
package final class BoundedQueue<Element: Sendable>: Sendable {
    private struct Contents {
        var elements: [Element] = []
        var isClosed = false
    }
    private let monitor: Monitor<Contents>
    private let capacity: Int

    package init(capacity: Int) {
        self.capacity = max(1, capacity)
        monitor = Monitor(Contents())
    }

    /// Adds an element, waiting for room; `false` once the queue is closed.
    @discardableResult
    package func push(_ element: Element) -> Bool {
        monitor.wait { contents in
            if contents.isClosed { return false }
            guard contents.elements.count < capacity else { return nil }
            contents.elements.append(element)
            return true
        }
    }

    /// Takes the oldest element, waiting for one; `nil` once the queue is closed and empty.
    package func pop() -> Element? {
        monitor.wait { contents -> Element?? in
            if !contents.elements.isEmpty { return .some(contents.elements.removeFirst()) }
            return contents.isClosed ? .some(nil) : nil
        }
    }

    /// Accepts no more elements; queued ones can still be taken.
    package func close() { monitor.update { $0.isClosed = true } }

    /// Accepts no more elements and drops the queued ones.
    package func cancel() {
        monitor.update {
            $0.isClosed = true
            $0.elements = []
        }
    }
}
