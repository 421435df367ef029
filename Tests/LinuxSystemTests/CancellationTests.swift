// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import Testing

@testable import LinuxSystem

/// Cancellation of running work.
@Suite struct CancellationTests {
    @Test func theFirstCauseCounts() {
        let cancellation = Cancellation()
        #expect(!cancellation.isRequested && !cancellation.isLoss && cancellation.start == nil)
        let before = SystemFacts.monotonicMilliseconds()
        cancellation.request(SIGTERM)
        cancellation.request(SIGINT)
        cancellation.noteLoss("/dev/sdx is gone")
        #expect(cancellation.isRequested && !cancellation.isLoss)
        #expect(cancellation.name == "asked to stop (SIGTERM)")
        let start = cancellation.start ?? 0
        #expect(start >= before && start <= SystemFacts.monotonicMilliseconds())
    }

    @Test func aLostDiskIsNamed() {
        let cancellation = Cancellation()
        cancellation.noteLoss("/dev/sdx is gone")
        cancellation.noteLoss("/dev/sdy is gone")
        cancellation.request(SIGINT)
        #expect(cancellation.isRequested && cancellation.isLoss && cancellation.start != nil)
        #expect(cancellation.name == "/dev/sdx is gone")
    }

    @Test func eachStandsForItself() {
        let (one, other) = (Cancellation(), Cancellation())
        one.request(SIGHUP)
        #expect(one.name == "the terminal went away (SIGHUP)")
        #expect(!other.isRequested && other.start == nil)
    }
}
