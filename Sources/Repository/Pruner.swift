// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import ObjectStore

extension Repository {
    /// The grace time unless another is asked for: a day, in seconds.
    package static let usualGrace = 24.0 * 3600

    /// Removes what no snapshot needs: packs are marked first and removed when they have been unneeded for the grace
    /// time, so that captures at the same time and readers without a lock lose nothing. RepositoryFormat.md has the
    /// phases.
    /// - Parameters:
    ///   - grace: how long readers without a lock may need what is unneeded now, in seconds.
    ///   - confirmedMissing: how many snapshots may be missing without having been forgotten; `nil` for none.
    ///   - dryRun: nothing is changed; the report says what would be.
    ///   - waiting: how long to wait for other maintenance, in seconds.
    ///   - note: is told what a person should know at once: whom it waits for, stale locks.
    ///   - progress: is told how far it is.
    /// - Throws: `ImageError.refused` where snapshots are missing that were not forgotten, or all are; and where something
    ///   is damaged so that what is needed cannot be told. Then nothing is removed.
    package func prune(
        grace: Double = Repository.usualGrace, confirmedMissing: Int? = nil, dryRun: Bool = false, waiting: Double = 0,
        note: (String) -> Void = { _ in }, progress: (PruneStep) -> Void = { _ in }
    ) throws(ImageError) -> PruneReport {
        try prune(
            grace: grace, confirmedMissing: confirmedMissing, dryRun: dryRun, waiting: waiting, note: note
        ) { (step) throws(ImageError) in
            progress(step)
        }
    }

    /// - Parameter reached: is called at each step, and may end it there: for tests of crashes.
    func prune(
        grace: Double, confirmedMissing: Int? = nil, dryRun: Bool, waiting: Double, note: (String) -> Void,
        reached: (PruneStep) throws(ImageError) -> Void
    ) throws(ImageError) -> PruneReport {
        // A dry run writes nothing, and can do without a lock where none can be had.
        let lock =
            dryRun
            ? try? RepositoryLock.acquire(
                in: try store.prunable(), operation: .verify, waiting: 0, refreshSeconds: LockRecord.refreshSeconds,
                removesStale: false, note: note)
            : try store.lock(.prune, waiting: waiting, note: note)
        defer { lock?.release() }
        let pruner = Pruner(self, lock: lock, grace: grace, confirmedMissing: confirmedMissing, dryRun: dryRun)
        try pruner.run(reached)
        return pruner.report
    }
}

/// One run of prune.
final class Pruner {
    var report = PruneReport()
    let repository: Repository
    let lock: RepositoryLock?
    private let grace: Double
    private let confirmedMissing: Int?
    let dryRun: Bool
    var store: StoreAccess { repository.store }

    /// The most entries of new packs that are held before an index is written.
    static let entriesAtOnce = 100_000

    init(
        _ repository: Repository, lock: RepositoryLock?, grace: Double, confirmedMissing: Int? = nil, dryRun: Bool
    ) {
        self.repository = repository
        self.lock = lock
        self.grace = max(0, grace)
        self.confirmedMissing = confirmedMissing
        self.dryRun = dryRun
        report.isDryRun = dryRun
    }

    func run(_ reached: (PruneStep) throws(ImageError) -> Void) throws(ImageError) {
        let now = lock?.keeperSeconds() ?? SystemFacts.unixSeconds()
        // Who is at work is asked before the snapshots are listed: of two that are gone or done by then, one has
        // published nothing, and the other's snapshot is in the list.
        let others = try RepositoryLock.held(
            in: store, besides: lock?.record?.uuid, now: now, removesStale: !dryRun)
        let moment = PruneMoment(now: now, grace: grace, others: others, keepsTime: store.source.traits.keepsTime)
        let marks = try PruneMarks(store)
        let ids = try repository.snapshotIDs()
        let ledger = try SnapshotLedger(store)
        var packs = try listPacks()
        let missing = try ledger.missing(besides: ids)
        guard try isConfirmed(missing: missing, present: ids.count, isBusy: moment.firstWriter != nil) else { return }
        if !dryRun { try ledger.add(ids) }

        let indexes = try adopt(&packs, moment.isYoung)
        try reached(.adopted)

        let references = try PruneReferences(
            repository, indexes, present: Set(packs.keys), marked: Set(marks.packs.keys))
        try addReferences(ids, ledger, references)
        report.snapshotCount = ids.count
        try account(references, indexes, &packs)
        try reached(.referenced)

        let plan = PrunePlan(packs, marks, moment, isLacking: report.missingCount > 0)
        for use in plan.unmarked {
            report.unmarked.add(use.byteCount)
            if !dryRun { try store.remove(.mark(use.name)) }
        }
        let repacked = try repack(plan.repackable, references)
        try reached(.repacked)

        let marking = plan.marking(repacked: repacked)
        let holders = try mark(marking.toMark.map(\.name), reached)
        let hasNewSnapshots = !Set(try repository.snapshotIDs()).isSubset(of: ids)
        let removal = marking.removal(holders: holders, hasNewSnapshots: hasNewSnapshots)
        for use in removal.waiting { report.waiting.add(use.byteCount) }
        for use in removal.newlyMarked { report.newlyMarked.add(use.byteCount) }
        let going = try withoutOnlyCopies(removal.going, references)
        for use in going { report.removed.add(use.byteCount) }
        try removePacks(going.map(\.name), marksOfMissing: plan.orphanedMarks, reached)
        try cleanUp()
        if !dryRun { try ledger.settle(gone: missing) }
    }

    /// Snapshots that are missing without having been forgotten are more likely on a disk that is not mounted, or in a
    /// copy that is not complete, than gone for good.
    /// - Returns: whether there is anything to do.
    private func isConfirmed(
        missing: [ContentHash], present: Int, isBusy: Bool
    ) throws(ImageError) -> Bool {
        let isEmpty = present == 0 && report.present.packCount > 0
        guard !missing.isEmpty || isEmpty || confirmedMissing ?? 0 > 0 else { return true }
        if let confirmedMissing, confirmedMissing == missing.count {
            if !missing.isEmpty {
                let count = "\(missing.count) snapshot\(missing.count == 1 ? "" : "s")"
                report.notes.append("\(count) missing, as confirmed: what no other snapshot needs goes")
            }
            return true
        }
        if isBusy, present == 0, missing.isEmpty, confirmedMissing == nil {
            report.notes.append("the first capture is at work: nothing can be removed yet")
            return false
        }
        let names = missing.prefix(10).map { String($0.description.prefix(12)) }.joined(separator: ", ")
        let what =
            missing.isEmpty
            ? present == 0
                ? "\(store.source.name(ofAll: .snapshot)) holds no snapshot, and \(store.source.name(ofAll: .pack)) holds \(ByteText.rounded(report.present.byteCount))"
                : "no snapshot of \(repository.name) is missing"
            : "\(missing.count) snapshot\(missing.count == 1 ? " is" : "s are") missing from \(store.source.name(ofAll: .snapshot)) and "
                + "\(missing.count == 1 ? "was" : "were") never forgotten: \(names)\(missing.count > 10 ? ", …" : "")"
                + (present == 0 ? "; none is left" : "")
        throw .refused(
            "\(what). Nothing was changed. A mount or a copy may be incomplete: bring the files back. Only if they are gone "
                + "for good, prune with --confirm-missing-snapshots \(missing.count)")
    }

    func confirm() throws(ImageError) { try lock?.confirm() }

    // MARK: Survey

    func listPacks() throws(ImageError) -> [StoreName: PackUse] {
        var packs: [StoreName: PackUse] = [:]
        for name in try store.packNames() {
            guard let status = try store.status(.pack(name)) else { continue }
            packs[name] = PackUse(name: name, byteCount: status.byteCount, modified: status.modified)
            report.present.add(status.byteCount)
        }
        return packs
    }

    /// The indexes that are whole. Packs that only a damaged one knew, or none (their capture died), are indexed again;
    /// then the damaged ones go.
    func adopt(
        _ packs: inout [StoreName: PackUse], _ isYoung: (PackUse) -> Bool
    ) throws(ImageError) -> IndexSet {
        let set = try repository.indexSet()
        // An index that the medium does not give now is not damaged.
        for one in set.damaged { if case .system = one.error { throw one.error } }
        var whole: [IndexFile] = []
        var damaged = set.damaged.map(\.name)
        for file in set.files {
            do {
                var cursor = IndexFile.Cursor(file)
                while try cursor.next() != nil {}
                whole.append(file)
            } catch {
                if case .system = error { throw error }
                damaged.append(file.name)
                report.notes.append("\(error)")
            }
        }
        report.notes += set.damaged.map { "\($0.error)" }
        for file in whole {
            for name in file.packs { packs[name]?.isIndexed = true }
        }
        var entries: [IndexEntry] = []
        var added: [IndexFile] = []
        func write() throws(ImageError) {
            guard !entries.isEmpty else { return }
            if !dryRun { added.append(try writeIndex(entries)) }
            entries = []
        }
        var isComplete = true
        let check = ContentCheck(repository)
        for use in packs.values.filter({ !$0.isIndexed }).sorted(by: { $0.name < $1.name }) {
            guard !isYoung(use) else {
                isComplete = false
                continue
            }
            var wholeCount = 0
            do {
                let pack = try PackFile(use.name, store, repository.secrets)
                let table = try pack.table()
                // A pack may be in no index because repair took out all that it has: only what is whole comes back.
                let whole = dryRun ? table : try Self.whole(table, in: pack, check)
                wholeCount = whole.count
                entries += whole
                if whole.count < table.count {
                    report.notes.append(
                        "\(table.count - whole.count) contents of \(pack.path) are damaged, and were not indexed again")
                }
            } catch {
                if error.isMissingFile { continue }
                isComplete = false
                report.notes.append("a pack that no index knows is left alone: \(error)")
                continue
            }
            // What it has is looked at like that of all others. A rehearsal cannot do so, but knows that whole indexes
            // have all that is needed.
            packs[use.name]?.isIndexed = !dryRun || damaged.isEmpty
            if wholeCount > 0 { report.adopted.add(use.byteCount) }
            if entries.count >= Self.entriesAtOnce { try write() }
        }
        try write()
        if !damaged.isEmpty, isComplete, !dryRun {
            try confirm()
            try repository.removeIndexes(damaged)
            report.notes.append("\(damaged.count) damaged indexes were made anew from the packs")
        }
        return IndexSet(files: whole + added, damaged: [])
    }

    /// The contents of a pack that are what their names say.
    /// - Throws: where one cannot be read: that proves no damage.
    private static func whole(
        _ table: [IndexEntry], in pack: PackFile, _ check: ContentCheck
    ) throws(ImageError) -> [IndexEntry] {
        var result: [IndexEntry] = []
        for entry in table {
            do {
                _ = try check.stored(entry, in: pack)
                result.append(entry)
            } catch {
                if case .system = error { throw error }
            }
        }
        return result
    }

    func writeIndex(_ entries: [IndexEntry]) throws(ImageError) -> IndexFile {
        let writer = try IndexWriter(
            store, repository.secrets, expectedEntryCount: UInt64(entries.count))
        for entry in entries.sorted(by: { $0.key < $1.key }) { try writer.add(entry) }
        try confirm()
        _ = try writer.finish()
        return try IndexFile(writer.name, store, repository.secrets)
    }

    /// All that snapshots need. One that cannot be read needs nobody knows what.
    private func addReferences(
        _ ids: [ContentHash], _ ledger: SnapshotLedger, _ references: PruneReferences
    ) throws(ImageError) {
        for id in ids {
            do { try references.add(try repository.snapshot(id)) } catch {
                if case .missing = error {
                    if try ledger.isForgotten(id) { continue }
                    throw .refused(
                        "the snapshot \(repository.name(of: id)) was there a moment ago and was never forgotten: the mount of "
                            + "\(repository.name), or a copy into it, may be incomplete. Nothing was removed")
                }
                guard case .damaged(_, let what, let offset, let disk, let partition) = error else { throw error }
                throw .damaged(
                    name: repository.name(of: id),
                    what: "\(what). What it needs cannot be told, so nothing is removed. If no copy of it is "
                        + "left, remove the file \(store.name(of: .snapshot(id))), then prune with "
                        + "--confirm-missing-snapshots 1",
                    fileOffset: offset, disk: disk, partition: partition)
            }
        }
        try references.settle()
        report.missingCount = references.missingCount
        if references.missingCount > 0 {
            report.notes.append(
                "\(references.missingCount) contents that snapshots need are in no pack: verify says which. Until they "
                    + "are there again, or their snapshots are forgotten, no pack is removed")
        }
    }

    /// Adds up what is needed of each pack.
    private func account(
        _ references: PruneReferences, _ indexes: IndexSet, _ packs: inout [StoreName: PackUse]
    ) throws(ImageError) {
        var cursor = try indexes.mergedCursor()
        var ahead = try cursor.next()
        while let first = ahead {
            // All places of one content; the same place may be in several indexes.
            var places: [(location: BlobLocation, isNeeded: Bool)] = []
            while let hit = ahead, hit.hit.entry.key == first.hit.entry.key {
                let isNeeded = references.isNeeded(hit)
                if let last = places.last, last.location == hit.hit.entry.location {
                    places[places.count - 1].isNeeded = last.isNeeded || isNeeded
                } else {
                    places.append((hit.hit.entry.location, isNeeded))
                }
                ahead = try cursor.next()
            }
            let isNeededAnywhere = places.contains { $0.isNeeded }
            for place in places {
                let count = UInt64(place.location.storedByteCount)
                packs[place.location.pack]?.knownByteCount += count
                if place.isNeeded {
                    packs[place.location.pack]?.neededByteCount += count
                    report.neededByteCount += count
                } else if isNeededAnywhere {
                    packs[place.location.pack]?.hasCopies = true
                }
            }
        }
    }
}
