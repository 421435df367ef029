// SPDX-License-Identifier: GPL-3.0-or-later
import Synchronization

/// The progress of long work: written by its threads, read by the thread that shows it.
package final class Progress: Sendable {
    private let doneBytes = Atomic<UInt64>(0)
    private let totalBytes = Atomic<UInt64>(0)
    private let phaseName = Mutex("")

    package init() {}

    /// The bytes done in this phase.
    package var done: UInt64 { doneBytes.load(ordering: .relaxed) }
    /// The bytes of this phase; 0 if unknown.
    package var total: UInt64 { totalBytes.load(ordering: .relaxed) }
    /// The name of the phase, for a person.
    package var phase: String { phaseName.withLock { $0 } }

    /// Begins a new phase.
    func begin(_ phase: String, total: UInt64) {
        phaseName.withLock { $0 = phase }
        totalBytes.store(total, ordering: .relaxed)
        doneBytes.store(0, ordering: .relaxed)
    }

    /// Sets the progress of work that counts its own bytes.
    package func show(_ phase: String, done: UInt64, total: UInt64) {
        if self.phase != phase { begin(phase, total: total) }
        totalBytes.store(total, ordering: .relaxed)
        doneBytes.store(done, ordering: .relaxed)
    }

    /// Adds bytes to the count of those done.
    func advance(_ byteCount: UInt64) { doneBytes.wrappingAdd(byteCount, ordering: .relaxed) }
}
