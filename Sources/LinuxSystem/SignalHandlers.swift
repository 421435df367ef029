// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import Synchronization

/// Turns the signals that end this process (SIGINT, SIGTERM, SIGHUP and SIGXCPU) into a cancellation, so that work ends
/// in order.
package enum SignalHandlers {
    private static let signals = [SIGINT, SIGTERM, SIGHUP, SIGXCPU]
    /// The address of the cancellation: a handler is a C function and captures nothing. Only handlers read it.
    private static let address = Atomic<UInt>(0)

    /// Makes the signals request `cancellation` from now on, and ignores SIGPIPE (writes report EPIPE instead).
    ///
    /// The corresponding C function is `sigaction`.
    package static func install(_ cancellation: Cancellation) {
        // Retained for the lifetime of the process: a handler may run at any moment.
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

    /// Async-signal-safe.
    private static func handle(_ number: Int32) {
        guard let kept = UnsafeRawPointer(bitPattern: address.load(ordering: .acquiring)) else { return }
        Unmanaged<Cancellation>.fromOpaque(kept).takeUnretainedValue().request(number)
    }

    /// A pending signal: the kernel delivers signals to the first thread, which may be in an uninterruptible wait.
    /// Blocks the signals in the calling thread from now on.
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
