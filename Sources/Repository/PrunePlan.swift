// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// What a prune does with each pack, by what it observed. Nothing here reads or writes: `Pruner` observes, and carries
/// the plan out.
///
/// The plan has three parts, one after the other: which packs are unneeded depends on which could be copied, and what
/// goes at once on the locks that are held when the marks can be seen.
struct PrunePlan {
    /// Packs that were marked before, and are needed again: their marks are removed.
    let unmarked: [PackUse]
    /// Packs that are mostly unneeded, the largest unneeded share first: what is needed of them is copied.
    let repackable: [PackUse]
    /// The marks of packs that are not there: removed with the packs that go.
    let orphanedMarks: [StoreName]
    private let packs: [StoreName: PackUse]
    /// Without the marks of `unmarked`.
    private let marks: PruneMarks
    private let moment: PruneMoment
    private let isLacking: Bool

    /// A pack is copied where at least this share of it is unneeded.
    private static let repackShare = 0.25

    /// - Parameter isLacking: whether a content that a snapshot needs is in no pack. Then it is unknown what else is
    ///   wrong, and which copy will be looked for: nothing is copied, and nothing goes.
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

    /// What becomes of the packs that are unneeded now.
    /// - Parameter repacked: the packs of which all that is needed was copied.
    func marking(repacked: [StoreName]) -> Marking {
        var packs = packs
        for name in repacked { packs[name]?.isRepacked = true }
        var marking = Marking(canGoAtOnce: !isLacking && moment.isDue(markedAt: moment.now))
        for use in packs.values where use.isIndexed && (use.neededByteCount == 0 || use.isRepacked) {
            // A mark whose batch was not finished, or comes from the future, counts from now.
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
        /// Marked for long enough, and no lock from before the mark is held any more: removed.
        fileprivate(set) var going: [PackUse] = []
        /// Marked, and kept for now.
        fileprivate(set) var waiting: [PackUse] = []
        /// Whether what is marked now may be removed by the same prune.
        fileprivate let canGoAtOnce: Bool

        fileprivate init(canGoAtOnce: Bool) { self.canGoAtOnce = canGoAtOnce }

        /// What is removed, once the marks can be seen. A pack that was marked now goes where nothing that is at work,
        /// and nothing that ended meanwhile, relied on it before.
        /// - Parameters:
        ///   - holders: the locks that are older than the marks.
        ///   - hasNewSnapshots: whether a snapshot came since the snapshots were listed: a capture that began and ended
        ///     meanwhile has left one.
        func removal(holders: [GUID], hasNewSnapshots: Bool) -> Removal {
            if canGoAtOnce, holders.isEmpty, !hasNewSnapshots {
                return Removal(going: going + toMark, waiting: waiting, newlyMarked: [])
            }
            return Removal(going: going, waiting: waiting + toMark, newlyMarked: toMark)
        }
    }

    /// The unneeded packs, once the marks can be seen.
    struct Removal: Equatable {
        /// Removed.
        let going: [PackUse]
        /// Marked, and removed by a later prune.
        let waiting: [PackUse]
        /// Of those, marked by this prune.
        let newlyMarked: [PackUse]
    }
}
