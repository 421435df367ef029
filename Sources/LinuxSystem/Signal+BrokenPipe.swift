// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc

extension Signal {
    /// Makes writes into a pipe without a reader fail with EPIPE instead of ending the process. Children
    /// start with the default action.
    ///
    /// The corresponding C function is `signal(SIGPIPE, SIG_IGN)`.
    package static func ignoreBrokenPipes() { Glibc.signal(SIGPIPE, SIG_IGN) }

    /// The same for the calling thread alone, where the process may not have done so.
    ///
    /// The corresponding C function is `pthread_sigmask`.
    static func blockBrokenPipes() {
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }
}
