// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import LinuxSystem

/// Makes finished packs durable on its own thread, so that no other thread waits for the medium.
final class PackPublisher: Sendable {
    private struct State {
        var waiting = 0
        var committed: Set<StoreName> = []
        var error: (any Error)?
        var isClosed = false
    }
    private let queue = BoundedQueue<PackWriter>(capacity: 2)
    private let state = Monitor(State())
    private let thread: WorkerThread

    init(mayPublish: @escaping @Sendable () throws -> Void) throws(ImageError) {
        do {
            thread = try WorkerThread { [queue, state] in
                while let pack = queue.pop() {
                    let hasFailed = state.update { $0.error != nil }
                    do {
                        if hasFailed {
                            pack.discard()
                        } else {
                            try mayPublish()
                            try pack.commit()
                        }
                        state.update {
                            $0.waiting -= 1
                            if !hasFailed { $0.committed.insert(pack.name) }
                        }
                    } catch {
                        pack.discard()
                        state.update {
                            $0.waiting -= 1
                            $0.error = $0.error ?? error
                        }
                    }
                }
            }
        } catch { throw .system(error) }
    }

    /// Queues a finished pack. Throws the error of an earlier one.
    func publish(_ pack: PackWriter) throws {
        if let error = state.update({ $0.error }) { throw error }
        state.update { $0.waiting += 1 }
        if !queue.push(pack) { state.update { $0.waiting -= 1 } }
    }

    /// Waits until all queued packs are durable.
    func drain() throws {
        let error = state.wait { state -> (any Error)?? in state.waiting == 0 ? .some(state.error) : nil }
        if let error { throw error }
    }

    /// The packs that became durable since the last call.
    func takeCommitted() -> Set<StoreName> {
        state.update { state in
            defer { state.committed = [] }
            return state.committed
        }
    }

    /// Ends the thread after it has written all queued packs.
    func close() {
        let isFirst = state.update { state -> Bool in
            defer { state.isClosed = true }
            return !state.isClosed
        }
        guard isFirst else { return }
        queue.close()
        thread.join()
    }

    deinit { close() }
}
