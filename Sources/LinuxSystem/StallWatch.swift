// SPDX-License-Identifier: GPL-3.0-or-later

/// Looks every half second at the calls that have not returned: says which disk, file or pipe is waited for, notices disks
/// that are gone, and gives up on a call that outlasts the end that was asked for.
package final class StallWatch: Sendable {
    /// Judges the pending calls at one moment.
    struct Judge {
        /// The age at which a call is first reported; then at each doubling.
        static let worthSaying: UInt64 = 30_000
        /// The time limit of a call once the work must end: with the interval of the watch and the remaining work,
        /// the total stays below 5 s.
        static let patience: UInt64 = 3_000

        /// A longer gap between two checks was no wait for a disk: the process was stopped.
        static let longestInterval: UInt64 = 2_000

        private var lastLook: UInt64?
        /// The age at which each call is reported next.
        private var nextAge: [PendingCalls.Call: UInt64] = [:]

        /// Per disk: its activity count, when that last grew, and when it was last read.
        private var activities: [String: (count: UInt64, moved: UInt64?, asked: UInt64)] = [:]
        /// A disk that completed no request for this long does not answer.
        static let silence: UInt64 = 2_500

        /// Whether one of the disks below has completed requests recently: the wait is long then, but progresses.
        /// Unknown at the first check.
        mutating func isAtWork(_ activity: [String: UInt64], now: UInt64) -> Bool {
            var isAtWork = false
            for (disk, count) in activity {
                let known = activities[disk].flatMap { now - min(now, $0.asked) <= Self.longestInterval ? $0 : nil }
                let moved = known.flatMap { $0.count != count ? now : $0.moved }
                activities[disk] = (count, moved, now)
                if let moved, now - moved <= Self.silence { isAtWork = true }
            }
            return isAtWork
        }

        /// A program that the work waits for although it must end.
        private struct Awaited {
            var activity: RunningPrograms.Activity
            /// When it began to do nothing but wait for a disk; `nil` while it is active.
            var stillSince: UInt64?
        }
        private var awaited: [RunningPrograms.Program: Awaited] = [:]

        /// The judgement on running programs once the work must end.
        struct OfPrograms: Equatable {
            /// One for each program not reported before: it must finish its work.
            var messages: [String] = []
            /// The one to give up on: its disk does not answer.
            var hopeless: RunningPrograms.Program?
        }

        /// Checks programs that still run although the work must end. They are not stopped: a half-done filesystem
        /// change is damage. But a program whose disk does not answer is not waited for; it resumes by itself when the
        /// disk does. For a program without an open disk (it works through a mount), this cannot be determined.
        mutating func look(
            at programs: [RunningPrograms.Program: RunningPrograms.Activity], now: UInt64, interruption: UInt64
        ) -> OfPrograms {
            var result = OfPrograms()
            awaited = awaited.filter { programs[$0.key] != nil }
            for (program, activity) in programs {
                guard let known = awaited[program] else {
                    awaited[program] = Awaited(activity: activity, stillSince: activity.isWaiting ? now : nil)
                    continue
                }
                let mayBeLeft = !program.isConfined && !activity.disks.isEmpty
                let isStill = activity == known.activity && activity.isWaiting && mayBeLeft
                let since = isStill ? known.stillSince ?? now : nil
                awaited[program] = Awaited(activity: activity, stillSince: since)
                if let since, now - since >= Self.silence { result.hopeless = program }
                // Most end at once and need no message.
                if since == nil, now >= interruption + 1_000, told.insert(program).inserted {
                    result.messages.append(
                        "waiting for `\(program.name)`, which must end its work first; do not switch off")
                }
            }
            return result
        }
        private var told: Set<RunningPrograms.Program> = []

        /// Whether this check counts: calls that were pending while the process was stopped get
        /// one more interval to return.
        mutating func looks(now: UInt64) -> Bool {
            defer { lastLook = now }
            return now - min(now, lastLook ?? now) <= Self.longestInterval
        }

        /// Messages about pending calls.
        /// - Parameter busy: the names whose disks are active.
        mutating func messages(_ calls: [PendingCalls.Call], busy: Set<String> = [], now: UInt64) -> [String] {
            nextAge = nextAge.filter { calls.contains($0.key) }
            var oldest: [String: PendingCalls.Call] = [:]
            for call in calls where call.start < oldest[call.name]?.start ?? .max { oldest[call.name] = call }
            return oldest.values.sorted { $0.start < $1.start }.compactMap { call in
                let age = now - min(now, call.start)
                guard age >= nextAge[call] ?? Self.worthSaying else { return nil }
                nextAge[call] = age * 2
                let why = busy.contains(call.name) ? "whose disk is slow, but works" : "which does not answer"
                return "waiting for \(age / 1000) s for \(call.description), \(why); Ctrl-C gives up on it"
            }
        }

        /// The call to give up on.
        /// - Parameter interruption: when the work had to end; `nil` without an interruption.
        static func hopeless(
            _ calls: [PendingCalls.Call], now: UInt64, interruption: UInt64?
        ) -> PendingCalls.Call? {
            guard let interruption, now >= interruption + patience else { return nil }
            return calls.filter { now >= $0.start + patience }.min { $0.start < $1.start }
        }
    }

    private let thread: PeriodicThread

    /// Watches until released.
    /// - Parameters:
    ///   - cancellation: the cancellation of the work; requested for lost disks, and for signals that no thread takes.
    ///   - say: receives messages.
    ///   - giveUp: ends the process; receives the name of the hanging call, and whether its disk still works.
    package init(
        _ cancellation: Cancellation, say: @escaping @Sendable (String) -> Void,
        giveUp: @escaping @Sendable (String, Bool) -> Void
    ) throws(SystemCallError) {
        let judge = Monitor(Judge())
        thread = try PeriodicThread(every: 0.5) {
            let living = PendingCalls.living()
            let calls = living.flatMap(\.now)
            let slow = living.filter { !$0.now.isEmpty }
            let busy = Set(
                slow.filter { place in
                    let activity = place.activity
                    return judge.update { $0.isAtWork(activity, now: SystemFacts.monotonicMilliseconds()) }
                }.map(\.name))
            let now = SystemFacts.monotonicMilliseconds()
            guard judge.update({ $0.looks(now: now) }) else { return }
            if let signal = SignalHandlers.untaken() { cancellation.request(signal) }
            if !cancellation.isRequested { for place in living { place.noteLoss() } }
            if let call = Judge.hopeless(calls, now: now, interruption: cancellation.start) {
                return giveUp(call.description, busy.contains(call.name))
            }
            if let interruption = cancellation.start {
                let programs = Dictionary(
                    RunningPrograms.now.map { ($0, RunningPrograms.activity(of: $0)) }, uniquingKeysWith: { $1 })
                let found = judge.update { $0.look(at: programs, now: now, interruption: interruption) }
                for message in found.messages { say(message) }
                if let program = found.hopeless {
                    return giveUp("the disk that `\(program.name)` waits for", false)
                }
            }
            for message in judge.update({ $0.messages(calls, busy: busy, now: now) }) { say(message) }
        }
    }

    /// Ends it.
    package func stop() { thread.stop() }
}

extension PendingCalls.Call: CustomStringConvertible {
    var description: String {
        switch kind {
        case .read: "\(name) (read)"
        case .write: "\(name) (write)"
        case .flush: "\(name) (flush)"
        case .discard: "\(name) (discard)"
        case .open: "\(name) (open)"
        case .change: "\(name) (close, rename or remove)"
        }
    }
}
