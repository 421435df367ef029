// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import LinuxSystem

/// A limit for work that hangs. Swift Testing's own time limit includes a test's wait for a thread: besides a thousand
/// other tests that is many minutes. This counts the processor time of the work itself, however busy the machine is.
package enum ProcessorTime {
    /// Runs `body` on this thread. If it takes more than `seconds` of processor time, the whole run ends with a
    /// message, as at a trap: a thread cannot be ended from outside.
    package static func limited<Result>(
        to seconds: Int, _ name: String, _ body: () throws -> Result
    ) throws -> Result {
        var clock = clockid_t()
        guard pthread_getcpuclockid(pthread_self(), &clock) == 0 else { return try body() }
        let (own, start) = (clock, taken(clock))
        let watch = try PeriodicThread(every: 1) {
            guard taken(own) - start > seconds else { return }
            fatalError("\(name) has not ended after \(seconds) s of a processor's time")
        }
        defer { watch.stop() }
        return try body()
    }

    private static func taken(_ clock: clockid_t) -> Int {
        var time = timespec()
        clock_gettime(clock, &time)
        return time.tv_sec
    }
}
