// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import LinuxSystem

/// The time at which a prune decides, and the locks that others hold then.
struct PruneMoment {
    /// By the store's clock.
    let now: Int64
    /// How long a pack stays marked before it is removed, in seconds.
    let grace: Double
    /// The locks of others.
    let alive: Set<GUID>
    /// When the first of the captures began that are at work, `.min` where that cannot be read; `nil` where none is.
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

    /// Whether a pack came since the first capture began that is still at work, so that it may be that capture's own.
    func isYoung(_ pack: PackUse) -> Bool {
        guard let firstWriter else { return false }
        // `.min` is a capture whose beginning cannot be read: then every pack may be its own.
        return !keepsTime || pack.modified >= max(firstWriter, Int64.min + 60) - 60
    }

    /// Whether a mark is old enough. Only the mark tells since when a pack is unneeded: what no snapshot refers to now
    /// may be what a snapshot needs whose file is away for a moment.
    func isDue(markedAt time: Int64) -> Bool { Double(now) - Double(time) >= grace }

    /// Whether a mark comes from the future, as a clock was turned back.
    func isYetToCome(markedAt time: Int64) -> Bool { Double(time) > Double(now) + Double(Self.clockTolerance) }
}
