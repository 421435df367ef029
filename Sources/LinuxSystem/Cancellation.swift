// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import Synchronization

/// A request to end work early, because of a signal or the loss of a disk. The first cause counts and is never cleared.
///
/// Work receives a cancellation and checks it between its steps.
package final class Cancellation: Sendable {
    /// 0, the number of a signal, or `lossNumber`.
    private let cause = Atomic<Int32>(0)
    /// The cause for the loss of a disk.
    private static let lossNumber: Int32 = -1
    private let loss = Mutex("a disk is gone")
    private let milliseconds = Atomic<UInt64>(0)
    private let requests = Atomic<Int>(0)

    /// Creates a cancellation that is not requested.
    package init() {}

    /// Requests the end because of a signal. Async-signal-safe.
    package func request(_ signal: Int32) {
        let now = SystemFacts.monotonicMilliseconds()
        requests.wrappingAdd(1, ordering: .relaxed)
        guard cause.compareExchange(expected: 0, desired: signal, ordering: .relaxed).exchanged else { return }
        milliseconds.store(now, ordering: .relaxed)
    }

    /// Requests the end because a disk is gone: the work ends like an interrupted one, but as a failure.
    package func noteLoss(_ sentence: String) {
        guard !isRequested else { return }
        loss.withLock { $0 = sentence }
        request(Self.lossNumber)
    }

    /// Whether the work should end.
    package var isRequested: Bool { cause.load(ordering: .relaxed) != 0 }

    /// The number of requests: a second one asks work that ends slowly to end at once.
    package var requestCount: Int { requests.load(ordering: .relaxed) }

    /// Whether the cause is the loss of a disk, which is a failure and not a request of the user.
    package var isLoss: Bool { cause.load(ordering: .relaxed) == Self.lossNumber }

    /// Whether a person asked for it at the terminal.
    package var isFromTerminal: Bool { cause.load(ordering: .relaxed) == SIGINT }

    /// The time of the request, in milliseconds of the monotonic clock; `nil` if there is none.
    package var start: UInt64? {
        let start = milliseconds.load(ordering: .relaxed)
        return start == 0 ? nil : start
    }

    /// The cause in messages.
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
