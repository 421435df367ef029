// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import LinuxSystem
import SystemPackage

/// Prints an operation's events on a terminal or in a log. Progress is one updated line on a terminal; elsewhere a line
/// soon after a phase begins, and one every 10 s.
final class TerminalEvents: EventSink {
    private struct State {
        var phase = ""
        var lastShown = SystemFacts.monotonicSeconds()
        var isSaid = false
        var hasLine = false
    }
    private let state = Monitor(State())
    private let isTerminal = SystemFacts.isTerminal(.standardError)
    /// Whether plans are not printed, because the result holds them.
    private let leavesPlans: Bool

    init(leavesPlans: Bool = false) { self.leavesPlans = leavesPlans }

    func take(_ event: Event) {
        switch event {
        case .log(let text), .step(let text): Console.message(text)
        case .notice(let notice): Console.message(notice.line)
        case .planned(let plan) where !leavesPlans: for line in plan.lines { Console.message(line) }
        case .phase(let phase): begin(phase)
        case .progress(let facts): show(facts)
        // The command itself reports its end.
        case .planned, .finished: break
        }
    }

    private func begin(_ phase: String) {
        let clears = state.update { state in
            // The time before the first phase does not count: typing a password, opening an image.
            if state.phase.isEmpty, !phase.isEmpty { state.lastShown = SystemFacts.monotonicSeconds() }
            (state.phase, state.isSaid) = (phase, false)
            guard phase.isEmpty else { return false }
            defer { state.hasLine = false }
            return state.hasLine
        }
        if clears { Console.write("\r\u{1B}[K", to: .standardError) }
    }

    private func show(_ facts: ProgressFacts) {
        let isTerminal = isTerminal
        let isDue = state.update { state in
            let now = SystemFacts.monotonicSeconds()
            // A new phase is shown early, and that of a child program (total 0) earlier: it reports nothing until it
            // ends.
            let isNews = !state.isSaid && facts.seconds >= (facts.total == 0 ? 0.5 : 2)
            guard now - state.lastShown >= (isTerminal ? 0.2 : 10) || isNews else { return false }
            (state.lastShown, state.isSaid, state.hasLine) = (now, true, isTerminal)
            return true
        }
        guard isDue else { return }
        let line = Self.text(facts)
        Console.write(isTerminal ? "\r\u{1B}[K\(line)" : "\(line)\n", to: .standardError)
    }

    static func text(_ facts: ProgressFacts) -> String {
        let (done, total) = (facts.done, facts.total)
        guard total > 0 else {
            return facts.seconds < 1 ? facts.phase : "\(facts.phase), \(duration(Int(facts.seconds)))"
        }
        var line =
            "\(facts.phase): \(ByteText.rounded(done)) of \(ByteText.rounded(total)) (\(percent(done, of: total)) %)"
        let standsStill = facts.stillSeconds >= 10
        guard facts.rate != nil else {
            return standsStill ? line + ", no byte for \(Int(facts.stillSeconds)) s" : line
        }
        line += ", \(ByteText.rate(done, seconds: facts.seconds))"
        // While no byte arrives, the forecast would only grow.
        if done < total, standsStill { return line + ", no byte for \(Int(facts.stillSeconds)) s" }
        // A forecast of more than a year is meaningless.
        if let left = facts.secondsLeft, left < 365 * 86400 { line += ", \(duration(Int(left) + 1)) left" }
        return line
    }

    /// In full width: a hundred times the number may exceed 64 bits.
    private static func percent(_ done: UInt64, of total: UInt64) -> UInt64 {
        total.dividingFullWidth(min(done, total).multipliedFullWidth(by: 100)).quotient
    }

    static func duration(_ seconds: Int) -> String {
        func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
        let text = "\(two(seconds % 3600 / 60)):\(two(seconds % 60))"
        return seconds >= 3600 ? "\(seconds / 3600):\(text)" : text
    }
}

struct TerminalConfirmer: Confirmer {
    func canAsk(whileStreaming: Bool) -> Bool { whileStreaming || SystemFacts.isTerminal(.standardInput) }
    func answer(to question: Question) -> String? { Console.ask(question.text, useTerminal: question.isStreaming) }
}
