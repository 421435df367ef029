// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import Synchronization

/// Whether work is to end before it is done: because of a signal, or because a disk is gone that it needs. The first cause
/// counts, and stays.
///
/// Work is given one, and asks it between its steps.
package final class Cancellation: Sendable {
    /// 0, the number of a signal, or `lossNumber`.
    private let cause = Atomic<Int32>(0)
    /// In place of a signal's number.
    private static let lossNumber: Int32 = -1
    private let loss = Mutex("a disk is gone")
    private let milliseconds = Atomic<UInt64>(0)

    /// One that nothing has caused yet.
    package init() {}

    /// Asks for the end because of a signal. Does only what a signal handler may do.
    package func request(_ signal: Int32) {
        let now = SystemFacts.monotonicMilliseconds()
        guard cause.compareExchange(expected: 0, desired: signal, ordering: .relaxed).exchanged else { return }
        milliseconds.store(now, ordering: .relaxed)
    }

    /// Asks for the end because a disk is gone: the work ends as if it was interrupted, but with a failure.
    package func noteLoss(_ sentence: String) {
        guard !isRequested else { return }
        loss.withLock { $0 = sentence }
        request(Self.lossNumber)
    }

    /// Whether the work is to end.
    package var isRequested: Bool { cause.load(ordering: .relaxed) != 0 }

    /// Whether that is because of the loss of a disk, which is no wish but a failure.
    package var isLoss: Bool { cause.load(ordering: .relaxed) == Self.lossNumber }

    /// Since when, in milliseconds of the monotonic clock; `nil` where the work may go on.
    package var start: UInt64? {
        let start = milliseconds.load(ordering: .relaxed)
        return start == 0 ? nil : start
    }

    /// The cause, for messages.
    package var name: String {
        switch cause.load(ordering: .relaxed) {
        case SIGINT: "interrupted (SIGINT)"
        case SIGTERM: "asked to stop (SIGTERM)"
        case SIGXCPU: "the limit of processor time was reached (SIGXCPU)"
        case SIGHUP: "the terminal went away (SIGHUP)"
        case Self.lossNumber: loss.withLock { $0 }
        default: "interrupted"
        }
    }
}
