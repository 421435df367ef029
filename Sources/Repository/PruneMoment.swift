// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import LinuxSystem

/// The time at which a prune decides, and the locks that other processes hold then.
struct PruneMoment {
    /// By the store's clock.
    let now: Int64
    /// How long a pack remains marked before it is removed, in seconds.
    let grace: Double
    /// The locks of other processes.
    let alive: Set<GUID>
    /// Start of the earliest running capture, `.min` if unreadable; `nil` if no capture is running.
    let firstWriter: Int64?
    /// Whether the store keeps the times of its objects.
    let keepsTime: Bool

    /// Clocks that differ by less, in seconds, count as the same.
    private static let clockTolerance: Int64 = 3600

    init(now: Int64, grace: Double, others: [RepositoryLock.Held], keepsTime: Bool) {
        self.now = now
        self.grace = grace
        self.keepsTime = keepsTime
        alive = Set(others.map(\.uuid))
        firstWriter = others.filter { $0.mayWrite }
            .map { $0.record.flatMap { TimeText($0.started)?.unixSeconds } ?? .min }.min()
    }

    /// Whether a pack appeared since the earliest running capture began, and so may belong to it.
    func isYoung(_ pack: PackUse) -> Bool {
        guard let firstWriter else { return false }
        // `.min` is a capture with an unreadable start: every pack may belong to it.
        return !keepsTime || pack.modified >= max(firstWriter, Int64.min + 60) - 60
    }

    /// Whether a mark is old enough. Only the mark shows since when a pack is unneeded: a snapshot whose file is
    /// temporarily absent may need contents that no other snapshot refers to.
    func isDue(markedAt time: Int64) -> Bool { Double(now) - Double(time) >= grace }

    /// Whether a mark lies in the future because a clock was turned back.
    func isYetToCome(markedAt time: Int64) -> Bool { Double(time) > Double(now) + Double(Self.clockTolerance) }
}
