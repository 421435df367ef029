// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// Decides what a prune does with each pack, from its observations. Nothing here reads or writes: `Pruner` observes and
/// executes the plan.
///
/// The plan has three parts, in sequence: which packs are unneeded depends on which could be copied, and immediate
/// removal depends on the locks held once the marks are visible.
struct PrunePlan {
    /// Marked packs that are needed again: their marks are removed.
    let unmarked: [PackUse]
    /// Packs with a large unneeded share, the largest share first: their needed contents are copied.
    let repackable: [PackUse]
    /// Marks of missing packs: removed together with the removed packs.
    let orphanedMarks: [StoreName]
    private let packs: [StoreName: PackUse]
    /// The marks, without those of `unmarked`.
    private let marks: PruneMarks
    private let moment: PruneMoment
    private let isLacking: Bool

    /// The unneeded share from which on a pack is copied.
    private static let repackShare = 0.25

    /// - Parameter isLacking: whether a content that a snapshot needs is in no pack. Then more may be wrong, and any
    ///   copy may be needed: nothing is copied and nothing removed.
    init(_ packs: [StoreName: PackUse], _ marks: PruneMarks, _ moment: PruneMoment, isLacking: Bool) {
        let unmarked = packs.values.filter { $0.neededByteCount > 0 && marks.packs.keys.contains($0.name) }
        var remaining = marks
        for use in unmarked { remaining.packs[use.name] = nil }
        self.unmarked = unmarked
        self.packs = packs
        self.marks = remaining
        self.moment = moment
        self.isLacking = isLacking
        guard !isLacking else {
            repackable = []
            orphanedMarks = []
            return
        }
        repackable = packs.values
            .filter { !moment.isYoung($0) && $0.neededByteCount > 0 && $0.unneededShare >= Self.repackShare }
            .sorted { ($0.unneededShare, $1.name) > ($1.unneededShare, $0.name) }
        orphanedMarks = remaining.packs.keys.filter { packs[$0] == nil }
    }

    /// Classifies the packs that are unneeded now.
    /// - Parameter repacked: the packs whose needed contents were copied.
    func marking(repacked: [StoreName]) -> Marking {
        var packs = packs
        for name in repacked { packs[name]?.isRepacked = true }
        var marking = Marking(canGoAtOnce: !isLacking && moment.isDue(markedAt: moment.now))
        for use in packs.values where use.isIndexed && (use.neededByteCount == 0 || use.isRepacked) {
            // A mark with an unfinished batch, or one from the future, counts from now.
            guard let batch = marks.batch(of: use.name) else {
                if !moment.isYoung(use) { marking.toMark.append(use) }
                continue
            }
            if moment.isYetToCome(markedAt: batch.time) {
                marking.toMark.append(use)
            } else if !isLacking, moment.isDue(markedAt: batch.time), batch.holders.isDisjoint(with: moment.alive) {
                marking.going.append(use)
            } else {
                marking.waiting.append(use)
            }
        }
        return marking
    }

    /// The unneeded packs, before any is marked.
    struct Marking {
        /// Marked now.
        fileprivate(set) var toMark: [PackUse] = []
        /// Marked for the grace time, with no lock from before the mark still held: removed.
        fileprivate(set) var going: [PackUse] = []
        /// Marked, and kept until a later prune.
        fileprivate(set) var waiting: [PackUse] = []
        /// Whether packs marked by this prune may be removed by it.
        fileprivate let canGoAtOnce: Bool

        fileprivate init(canGoAtOnce: Bool) { self.canGoAtOnce = canGoAtOnce }

        /// The packs to remove, once the marks are visible. A newly marked pack is removed if no running operation, and
        /// none that ended meanwhile, relied on it before.
        /// - Parameters:
        ///   - holders: the locks that are older than the marks.
        ///   - hasNewSnapshots: whether a snapshot was published since the snapshots were listed: a capture that began
        ///     and ended meanwhile leaves one.
        func removal(holders: [GUID], hasNewSnapshots: Bool) -> Removal {
            if canGoAtOnce, holders.isEmpty, !hasNewSnapshots {
                return Removal(going: going + toMark, waiting: waiting, newlyMarked: [])
            }
            return Removal(going: going, waiting: waiting + toMark, newlyMarked: toMark)
        }
    }

    /// The unneeded packs, once the marks are visible.
    struct Removal: Equatable {
        /// Removed.
        let going: [PackUse]
        /// Marked, and removed by a later prune.
        let waiting: [PackUse]
        /// The packs of `waiting` that this prune marked.
        let newlyMarked: [PackUse]
    }
}
