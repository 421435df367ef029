// SPDX-License-Identifier: GPL-3.0-or-later
import Imaging
import JobModel
import LinuxSystem

/// Sends the progress of long work as events, several times a second, until `end()`.
package final class ProgressReporter {
    private let isEnded = Monitor(false)
    private let events: any EventSink
    private var thread: WorkerThread?

    /// Starts the thread that sends events.
    package init(_ progress: Progress, _ events: any EventSink) {
        self.events = events
        let isEnded = isEnded
        thread = try? WorkerThread { Self.run(progress, events, isEnded) }
    }

    /// Stops the thread, and sends an empty phase.
    package func end() {
        isEnded.update { $0 = true }
        thread?.join()
        thread = nil
        events.take(.phase(""))
    }

    private static func run(_ progress: Progress, _ events: any EventSink, _ isEnded: Monitor<Bool>) {
        var phase = ""
        var phaseStart = SystemFacts.monotonicSeconds()
        var (lastDone, lastMove) = (UInt64(0), phaseStart)
        while !isEnded.update({ $0 }) {
            // Short sleeps, so that `end()` need not wait.
            SystemFacts.sleep(seconds: 0.05)
            let now = SystemFacts.monotonicSeconds()
            if progress.phase != phase {
                phase = progress.phase
                (phaseStart, lastMove) = (now, now)
                events.take(.phase(phase))
            }
            if progress.done != lastDone { (lastDone, lastMove) = (progress.done, now) }
            guard !phase.isEmpty else { continue }
            events.take(.progress(facts(progress, phase, now - phaseStart, still: now - lastMove)))
        }
    }

    /// - Parameter still: seconds since the last byte.
    static func facts(_ progress: Progress, _ phase: String, _ seconds: Double, still: Double) -> ProgressFacts {
        var facts = ProgressFacts(phase: phase, done: progress.done, total: progress.total)
        (facts.seconds, facts.stillSeconds) = (seconds, still)
        guard seconds > 0.5, facts.done > 0 else { return facts }
        let rate = Double(facts.done) / seconds
        facts.rate = rate
        if facts.done < facts.total { facts.secondsLeft = Double(facts.total - facts.done) / rate }
        return facts
    }
}
