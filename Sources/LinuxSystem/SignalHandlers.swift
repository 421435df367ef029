// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import Synchronization

/// The signals that ask this process for its end (SIGINT, SIGTERM, SIGHUP and SIGXCPU), noted instead of obeyed at once, so
/// that work can end in order.
package enum SignalHandlers {
    private static let signals = [SIGINT, SIGTERM, SIGHUP, SIGXCPU]
    /// The address of what the handlers set, as a handler is a C function and captures nothing. Nobody else reads it.
    private static let address = Atomic<UInt>(0)

    /// Has the signals request `cancellation` from now on, and ignores SIGPIPE (writes report EPIPE instead).
    ///
    /// The corresponding C function is `sigaction`.
    package static func install(_ cancellation: Cancellation) {
        // Kept for as long as the process lives: a handler may run at any moment.
        let kept = Unmanaged.passRetained(cancellation).toOpaque()
        address.store(UInt(bitPattern: kept), ordering: .releasing)
        for number in signals {
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { SignalHandlers.handle($0) }
            sigemptyset(&action.sa_mask)
            // No SA_RESTART: a blocking read of a terminal must return.
            sigaction(number, &action, nil)
        }
        signal(SIGPIPE, SIG_IGN)
    }

    /// Only what a signal handler may do.
    private static func handle(_ number: Int32) {
        guard let kept = UnsafeRawPointer(bitPattern: address.load(ordering: .acquiring)) else { return }
        Unmanaged<Cancellation>.fromOpaque(kept).takeUnretainedValue().request(number)
    }

    /// A signal that no thread has taken: the kernel gives it to the first one, which may wait uninterruptibly. The calling
    /// thread takes none from now on.
    ///
    /// The corresponding C functions are `pthread_sigmask` and `sigpending`.
    static func untaken() -> Int32? {
        var all = sigset_t()
        sigemptyset(&all)
        for number in signals { sigaddset(&all, number) }
        pthread_sigmask(SIG_BLOCK, &all, nil)
        var pending = sigset_t()
        guard sigpending(&pending) == 0 else { return nil }
        return signals.first(where: { sigismember(&pending, $0) == 1 })
    }
}
