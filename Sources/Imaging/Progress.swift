// SPDX-License-Identifier: GPL-3.0-or-later
import Synchronization

/// How far a long work is: written by its threads, read by whoever shows it.
package final class Progress: Sendable {
    private let doneBytes = Atomic<UInt64>(0)
    private let totalBytes = Atomic<UInt64>(0)
    private let phaseName = Mutex("")

    /// Of nothing yet.
    package init() {}

    /// How many bytes are done in this phase.
    package var done: UInt64 { doneBytes.load(ordering: .relaxed) }
    /// How many bytes this phase has; 0 where that is unknown.
    package var total: UInt64 { totalBytes.load(ordering: .relaxed) }
    /// What is being done, for a person.
    package var phase: String { phaseName.withLock { $0 } }

    /// A new phase begins.
    func begin(_ phase: String, total: UInt64) {
        phaseName.withLock { $0 = phase }
        totalBytes.store(total, ordering: .relaxed)
        doneBytes.store(0, ordering: .relaxed)
    }

    /// Where a work that counts for itself is.
    package func show(_ phase: String, done: UInt64, total: UInt64) {
        if self.phase != phase { begin(phase, total: total) }
        totalBytes.store(total, ordering: .relaxed)
        doneBytes.store(done, ordering: .relaxed)
    }

    /// More bytes are done.
    func advance(_ byteCount: UInt64) { doneBytes.wrappingAdd(byteCount, ordering: .relaxed) }
}
