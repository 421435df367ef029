// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import Synchronization

/// SIGINT, SIGTERM, SIGHUP and SIGXCPU, and the loss of a disk, recorded instead of obeyed at once, so that work can
/// end in order. The first one counts.
package enum Interruption {
    private static let signals = [SIGINT, SIGTERM, SIGHUP, SIGXCPU]
    private static let signalNumber = Atomic<Int32>(0)
    /// Stands for a signal number.
    private static let lossNumber: Int32 = -1
    private static let loss = Mutex("a disk is gone")
    private static let milliseconds = Atomic<UInt64>(0)

    /// Records SIGINT, SIGTERM, SIGHUP and SIGXCPU from now on, and ignores SIGPIPE (writes report EPIPE instead).
    package static func install() {
        // Initialised before a handler needs them: a signal handler may not initialise statics.
        _ = (isRequested, start)
        for number in signals {
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { Interruption.note($0) }
            sigemptyset(&action.sa_mask)
            // No SA_RESTART: a blocking read of a terminal must return.
            sigaction(number, &action, nil)
        }
        signal(SIGPIPE, SIG_IGN)
    }

    /// Async-signal-safe.
    private static func note(_ number: Int32) {
        let now = SystemFacts.monotonicMilliseconds()
        guard signalNumber.compareExchange(expected: 0, desired: number, ordering: .relaxed).exchanged else { return }
        milliseconds.store(now, ordering: .relaxed)
    }

    /// Records a signal that no thread has taken: the kernel gives it to the first thread, which may wait
    /// uninterruptibly. The calling thread takes no signals from now on.
    ///
    /// The corresponding C functions are `pthread_sigmask` and `sigpending`.
    static func notePending() {
        var all = sigset_t()
        sigemptyset(&all)
        for number in signals { sigaddset(&all, number) }
        pthread_sigmask(SIG_BLOCK, &all, nil)
        var pending = sigset_t()
        guard sigpending(&pending) == 0 else { return }
        if let number = signals.first(where: { sigismember(&pending, $0) == 1 }) { note(number) }
    }

    /// Records the loss of a disk that the work needs: the work ends as if interrupted, but with a failure.
    static func noteLoss(_ sentence: String) {
        guard !isRequested else { return }
        loss.withLock { $0 = sentence }
        note(lossNumber)
    }

    /// Whether one of them has arrived.
    package static var isRequested: Bool { signalNumber.load(ordering: .relaxed) != 0 }

    /// Whether it is the loss of a disk, which is a failure and no request.
    package static var isLoss: Bool { signalNumber.load(ordering: .relaxed) == lossNumber }

    /// When it arrived, in milliseconds of the monotonic clock; `nil` without one.
    static var start: UInt64? {
        let start = milliseconds.load(ordering: .relaxed)
        return start == 0 ? nil : start
    }

    /// The reason, for messages.
    package static var name: String {
        switch signalNumber.load(ordering: .relaxed) {
        case SIGINT: "interrupted (SIGINT)"
        case SIGTERM: "asked to stop (SIGTERM)"
        case SIGXCPU: "the limit of processor time was reached (SIGXCPU)"
        case SIGHUP: "the terminal went away (SIGHUP)"
        case lossNumber: loss.withLock { $0 }
        default: "interrupted"
        }
    }
}
