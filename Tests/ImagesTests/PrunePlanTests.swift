// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import LinuxSystem
import Testing

@testable import Repository

/// The decisions of a prune, without a store.
@Suite struct PrunePlanTests {
    private static let now: Int64 = 1_800_000_000
    private static let day: Int64 = 24 * 3600

    private func use(
        _ number: UInt64, needed: UInt64 = 0, known: UInt64 = 100, modified: Int64 = PrunePlanTests.now - 864_000
    ) -> PackUse {
        var use = PackUse(name: StoreName(high: 0, low: number), byteCount: 1000 + number, modified: modified)
        use.neededByteCount = needed
        use.knownByteCount = known
        use.isIndexed = true
        return use
    }

    private func lock(_ operation: RepositoryOperation, started: Int64 = PrunePlanTests.now) -> RepositoryLock.Held {
        var record = LockRecord(operation)
        record.started = SystemFacts.utcText(started)
        return RepositoryLock.Held(uuid: record.uuid, record: record)
    }

    /// Marks of one batch of the given age in seconds; `nil` for an incomplete one.
    private func marks(of packs: [PackUse], age: Int64?, holders: Set<GUID> = []) -> PruneMarks {
        let uuid = GUID.random()
        var marks = PruneMarks(packs: [:], batches: [:])
        for pack in packs { marks.packs.updateValue(uuid, forKey: pack.name) }
        if let age { marks.batches[uuid] = PruneMarks.Batch(time: Self.now - age, holders: holders) }
        return marks
    }

    private func plan(
        _ packs: [PackUse], _ marks: PruneMarks = PruneMarks(packs: [:], batches: [:]), grace: Double = 24 * 3600,
        others: [RepositoryLock.Held] = [], keepsTime: Bool = true, isLacking: Bool = false
    ) -> PrunePlan {
        PrunePlan(
            Dictionary(uniqueKeysWithValues: packs.map { ($0.name, $0) }), marks,
            PruneMoment(now: Self.now, grace: grace, others: others, keepsTime: keepsTime), isLacking: isLacking)
    }

    private func numbers(_ packs: [PackUse]) -> [UInt64] { packs.map(\.name.low).sorted() }

    @Test func whatIsUnneededIsMarkedFirst() {
        let plan = plan([use(1), use(2, needed: 100), use(3)])
        #expect(plan.unmarked.isEmpty && plan.repackable.isEmpty && plan.orphanedMarks.isEmpty)
        let marking = plan.marking(repacked: [])
        #expect(numbers(marking.toMark) == [1, 3] && marking.going.isEmpty && marking.waiting.isEmpty)
        let removal = marking.removal(holders: [], hasNewSnapshots: false)
        #expect(removal.going.isEmpty)
        #expect(numbers(removal.waiting) == [1, 3] && numbers(removal.newlyMarked) == [1, 3])
    }

    /// A pack in no index is kept: its contents were not checked.
    @Test func whatNoIndexKnowsStays() {
        var unknown = use(1)
        unknown.isIndexed = false
        let marking = plan([unknown]).marking(repacked: [])
        #expect(marking.toMark.isEmpty && marking.going.isEmpty && marking.waiting.isEmpty)
    }

    @Test func aNewMarkGoesAtOnceOnlyWithoutGraceTimeAndAlone() {
        let marking = plan([use(1)], grace: 0).marking(repacked: [])
        let alone = marking.removal(holders: [], hasNewSnapshots: false)
        #expect(numbers(alone.going) == [1] && alone.waiting.isEmpty && alone.newlyMarked.isEmpty)
        for removal in [
            marking.removal(holders: [.random()], hasNewSnapshots: false),
            marking.removal(holders: [], hasNewSnapshots: true),
        ] {
            #expect(removal.going.isEmpty && numbers(removal.waiting) == [1] && numbers(removal.newlyMarked) == [1])
        }
    }

    @Test func aMarkGoesAfterTheGraceTime() {
        let pack = use(1)
        let early = plan([pack], marks(of: [pack], age: Self.day - 1)).marking(repacked: [])
        #expect(numbers(early.waiting) == [1] && early.going.isEmpty && early.toMark.isEmpty)
        let late = plan([pack], marks(of: [pack], age: Self.day)).marking(repacked: [])
        #expect(numbers(late.going) == [1] && late.waiting.isEmpty && late.toMark.isEmpty)
        // Independent of events while this prune marks other packs.
        let removal = late.removal(holders: [.random()], hasNewSnapshots: true)
        #expect(numbers(removal.going) == [1] && removal.waiting.isEmpty && removal.newlyMarked.isEmpty)
    }

    @Test func aHolderFromBeforeTheMarkKeepsThePack() {
        let pack = use(1)
        let reader = lock(.restore)
        let old = marks(of: [pack], age: 2 * Self.day, holders: [reader.uuid])
        #expect(numbers(plan([pack], old, others: [reader]).marking(repacked: []).waiting) == [1])
        #expect(numbers(plan([pack], old, others: [lock(.restore)]).marking(repacked: []).going) == [1])
        #expect(numbers(plan([pack], old).marking(repacked: []).going) == [1])
    }

    /// A clock was turned back.
    @Test func aMarkFromTheFutureCountsFromNow() {
        let pack = use(1)
        let future = plan([pack], marks(of: [pack], age: -3601), grace: 0).marking(repacked: [])
        #expect(numbers(future.toMark) == [1] && future.going.isEmpty && future.waiting.isEmpty)
        // A small clock difference does not reset the mark.
        let near = plan([pack], marks(of: [pack], age: -3600), grace: 0).marking(repacked: [])
        #expect(numbers(near.waiting) == [1] && near.going.isEmpty && near.toMark.isEmpty)
    }

    @Test func aMarkWithoutItsBatchCountsFromNow() {
        let pack = use(1)
        let marking = plan([pack], marks(of: [pack], age: nil), grace: 0).marking(repacked: [])
        #expect(numbers(marking.toMark) == [1] && marking.going.isEmpty && marking.waiting.isEmpty)
        var unreadable = PruneMarks(packs: [:], batches: [:])
        unreadable.packs.updateValue(nil, forKey: pack.name)
        #expect(numbers(plan([pack], unreadable).marking(repacked: []).toMark) == [1])
    }

    /// They may belong to a running capture.
    @Test func youngPacksAreLeftAlone() {
        let start = Self.now - 1000
        let young = use(1, modified: start - 60)
        let old = use(2, modified: start - 61)
        let wasteful = use(3, needed: 10, modified: start)
        let writers = [lock(.capture, started: Self.now - 10), lock(.copy, started: start)]
        let beside = plan([young, old, wasteful], others: writers)
        #expect(numbers(beside.marking(repacked: []).toMark) == [2] && beside.repackable.isEmpty)
        // A reader stores nothing.
        let reading = plan([young, old, wasteful], others: [lock(.verify, started: start)])
        #expect(numbers(reading.marking(repacked: []).toMark) == [1, 2] && numbers(reading.repackable) == [3])
        // In a store without times, every pack may be new.
        let timeless = plan([young, old, wasteful], others: writers, keepsTime: false)
        #expect(timeless.marking(repacked: []).toMark.isEmpty && timeless.repackable.isEmpty)
        // A complete mark applies to a young pack too.
        let marked = plan([young], marks(of: [young], age: 2 * Self.day), others: writers)
        #expect(numbers(marked.marking(repacked: []).going) == [1])
        #expect(marked.marking(repacked: []).toMark.isEmpty)
    }

    /// A lock that is unreadable, or has an unreadable time, may be that of a capture that began before everything
    /// else.
    @Test(arguments: [false, true]) func besideACaptureOfUnknownAgeAllPacksAreYoung(isReadable: Bool) {
        var writer = lock(.capture)
        if isReadable { writer.record?.started = "yesterday" } else { writer.record = nil }
        let plan = plan([use(1), use(2, needed: 10), use(3, modified: .min)], others: [writer])
        #expect(plan.repackable.isEmpty && plan.marking(repacked: []).toMark.isEmpty)
    }

    @Test func nothingGoesWhereAContentIsLacking() {
        let (marked, fresh, wasteful, back) = (use(1), use(2), use(3, needed: 10), use(4, needed: 100))
        var marks = marks(of: [marked, back], age: 2 * Self.day)
        marks.packs.updateValue(nil, forKey: StoreName(high: 0, low: 9))
        let plan = plan([marked, fresh, wasteful, back], marks, grace: 0, isLacking: true)
        #expect(numbers(plan.unmarked) == [4])
        #expect(plan.repackable.isEmpty && plan.orphanedMarks.isEmpty)
        let marking = plan.marking(repacked: [])
        #expect(numbers(marking.waiting) == [1] && numbers(marking.toMark) == [2])
        let removal = marking.removal(holders: [], hasNewSnapshots: false)
        #expect(removal.going.isEmpty && numbers(removal.waiting) == [1, 2] && numbers(removal.newlyMarked) == [2])
    }

    @Test func aNeededPackLosesItsMark() {
        let pack = use(1, needed: 50)
        let plan = plan([pack], marks(of: [pack], age: 2 * Self.day))
        #expect(numbers(plan.unmarked) == [1] && numbers(plan.repackable) == [1])
        let kept = plan.marking(repacked: [])
        #expect(kept.toMark.isEmpty && kept.going.isEmpty && kept.waiting.isEmpty)
        // Copied, it is marked again, and its age starts from now.
        let copied = plan.marking(repacked: [pack.name])
        #expect(numbers(copied.toMark) == [1] && copied.going.isEmpty && copied.waiting.isEmpty)
        #expect(copied.toMark.allSatisfy { $0.isRepacked })
    }

    @Test func theMostWastefulPackIsCopiedFirst() {
        let plan = plan([use(1, needed: 75), use(2, needed: 76), use(4, needed: 10), use(3, needed: 10), use(5)])
        #expect(plan.repackable.map(\.name.low) == [3, 4, 1])
    }

    @Test func marksOfMissingPacksAreOrphaned() {
        let pack = use(1)
        let plan = plan([pack], marks(of: [pack, use(9)], age: 0))
        #expect(plan.orphanedMarks == [StoreName(high: 0, low: 9)])
    }
}
