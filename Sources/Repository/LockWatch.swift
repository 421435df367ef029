// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import LinuxSystem
import ObjectStore

/// The observations of other locks by this process, timed by its monotonic clock: clocks of two machines prove nothing
/// about each other.
final class LockWatch: Sendable {
    /// One instance for the process: lock names are never reused.
    static let shared = LockWatch()

    /// The observations of one lock.
    struct Observation {
        var status: ObjectStatus
        /// When its current state was first seen.
        var since: Double
        /// Whether it changed while it was watched.
        var hasChanged = false
    }
    private let seen = Monitor<[GUID: Observation]>([:])

    /// Records the current state of a lock.
    /// - Returns: how many seconds its state has been observed unchanged, and whether it ever changed.
    func observe(_ uuid: GUID, _ status: ObjectStatus) -> (unchangedSeconds: Double, hasChanged: Bool) {
        let now = SystemFacts.monotonicSeconds()
        return seen.update { seen in
            if let known = seen[uuid], known.status == status { return (now - known.since, known.hasChanged) }
            seen[uuid] = Observation(status: status, since: now, hasChanged: seen[uuid] != nil)
            return (0, seen[uuid]?.hasChanged ?? false)
        }
    }
}
