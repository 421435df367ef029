// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import LinuxSystem
import ObjectStore

/// What this process saw of the locks of others, by its own clock that only goes forward: clocks of two machines prove
/// nothing about each other.
final class LockWatch: Sendable {
    /// One for the process: names of locks never come again.
    static let shared = LockWatch()

    /// What was seen of one lock.
    struct Observation {
        var status: ObjectStatus
        /// Since when it is as it is, or was first seen so.
        var since: Double
        /// Whether it changed while it was watched.
        var hasChanged = false
    }
    private let seen = Monitor<[GUID: Observation]>([:])

    /// Notes how a lock is now.
    /// - Returns: for how many seconds it is so for certain, and whether it ever changed.
    func observe(_ uuid: GUID, _ status: ObjectStatus) -> (unchangedSeconds: Double, hasChanged: Bool) {
        let now = SystemFacts.monotonicSeconds()
        return seen.update { seen in
            if let known = seen[uuid], known.status == status { return (now - known.since, known.hasChanged) }
            seen[uuid] = Observation(status: status, since: now, hasChanged: seen[uuid] != nil)
            return (0, seen[uuid]?.hasChanged ?? false)
        }
    }
}
