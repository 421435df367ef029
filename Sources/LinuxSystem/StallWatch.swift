// SPDX-License-Identifier: GPL-3.0-or-later

/// Looks every half second at the calls that have not returned: says which disk, file or pipe is waited for, notices disks
/// that are gone, and gives up on a call that outlasts an interruption.
public final class StallWatch: Sendable {
    /// What the calls amount to at one moment.
    struct Judge {
        /// A call this old is worth a message; then one at each doubling.
        static let worthSaying: UInt64 = 30_000
        /// How long a call may take once the work is to end: with the interval of the watch and what there is to do then, this
        /// stays below 5 s.
        static let patience: UInt64 = 3_000

        /// What was longer between two looks was no wait for a disk: the process was stopped.
        static let longestInterval: UInt64 = 2_000

        private var lastLook: UInt64?
        /// When each call is spoken of next, as an age.
        private var nextAge: [PendingCalls.Call: UInt64] = [:]

        /// Whether what is seen counts: calls that were under way while the process was stopped have a look more to return.
        mutating func looks(now: UInt64) -> Bool {
            defer { lastLook = now }
            return now - min(now, lastLook ?? now) <= Self.longestInterval
        }

        /// Messages for a person.
        mutating func messages(_ calls: [PendingCalls.Call], now: UInt64) -> [String] {
            nextAge = nextAge.filter { calls.contains($0.key) }
            var oldest: [String: PendingCalls.Call] = [:]
            for call in calls where call.start < oldest[call.name]?.start ?? .max { oldest[call.name] = call }
            return oldest.values.sorted { $0.start < $1.start }.compactMap { call in
                let age = now - min(now, call.start)
                guard age >= nextAge[call] ?? Self.worthSaying else { return nil }
                nextAge[call] = age * 2
                return
                    "waiting for \(age / 1000) s for \(call.description), which does not answer; Ctrl-C gives up on it"
            }
        }

        /// The call to give up on.
        /// - Parameter interruption: when the work was to end; `nil` where it was not.
        static func hopeless(
            _ calls: [PendingCalls.Call], now: UInt64, interruption: UInt64?
        ) -> PendingCalls.Call? {
            guard let interruption, now >= interruption + patience else { return nil }
            return calls.filter { now >= $0.start + patience }.min { $0.start < $1.start }
        }
    }

    private let thread: PeriodicThread

    /// Watches until it is released.
    /// - Parameters:
    ///   - say: takes a message for a person.
    ///   - giveUp: ends the process; takes what does not return.
    public init(
        say: @escaping @Sendable (String) -> Void, giveUp: @escaping @Sendable (String) -> Void
    ) throws(SystemCallError) {
        let judge = Monitor(Judge())
        thread = try PeriodicThread(every: 0.5) {
            let living = PendingCalls.living()
            let calls = living.flatMap(\.now)
            let now = SystemFacts.monotonicMilliseconds()
            guard judge.update({ $0.looks(now: now) }) else { return }
            Interruption.notePending()
            if !Interruption.isRequested { for place in living { place.noteLoss() } }
            if let call = Judge.hopeless(calls, now: now, interruption: Interruption.start) {
                return giveUp(call.description)
            }
            for message in judge.update({ $0.messages(calls, now: now) }) { say(message) }
        }
    }

    /// Ends it.
    public func stop() { thread.stop() }
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
