// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc

extension Signal {
    /// From now on, who writes into a pipe that nobody reads gets an error (EPIPE) and is not ended. Children start with
    /// the usual way.
    ///
    /// The corresponding C function is `signal(SIGPIPE, SIG_IGN)`.
    package static func ignoreBrokenPipes() { Glibc.signal(SIGPIPE, SIG_IGN) }
}
