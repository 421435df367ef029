// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import ObjectStore

extension Repository {
    /// The default grace time: a day, in seconds.
    package static let usualGrace = 24.0 * 3600

    /// Removes contents that no snapshot needs. Packs are marked first, and removed after they were unneeded for the
    /// grace time, so that concurrent captures and readers without a lock lose nothing. RepositoryFormat.md has the
    /// phases.
    /// - Parameters:
    ///   - grace: how long readers without a lock may still need contents that are unneeded now, in seconds.
    ///   - confirmedMissing: confirmed number of missing snapshots that were never forgotten; `nil` for none.
    ///   - dryRun: change nothing; the report lists what would be changed.
    ///   - waiting: how long to wait for other maintenance, in seconds.
    ///   - note: receives messages for the user: the process it waits for, stale locks.
    ///   - progress: receives each completed step.
    /// - Throws: `ImageError.refused` if snapshots are missing that were not forgotten, or all are missing; also if
    ///   damage hides which contents are needed. Then nothing is removed.
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

    /// - Parameter reached: called at each step; may throw to simulate a crash.
    func prune(
        grace: Double, confirmedMissing: Int? = nil, dryRun: Bool, waiting: Double, note: (String) -> Void,
        reached: (PruneStep) throws(ImageError) -> Void
    ) throws(ImageError) -> PruneReport {
        // A dry run writes nothing, and runs without a lock if none can be taken.
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

    /// Upper bound on the entries of new packs held in memory before an index is written.
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
        // Locks are listed before snapshots. If a process has removed its lock by then, it either published nothing or
        // its snapshot is in the list.
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
        try removeProofs(ledger, gone: missing)
        if !dryRun { try ledger.settle(gone: missing) }
    }

    /// Missing snapshots that were never forgotten are more likely on an unmounted disk, or absent from an incomplete
    /// copy, than deleted.
    /// - Returns: whether the prune may proceed.
    private func isConfirmed(
        missing: [ContentHash], present: Int, isBusy: Bool
    ) throws(ImageError) -> Bool {
        let isEmpty = present == 0 && report.present.packCount > 0
        guard !missing.isEmpty || isEmpty || confirmedMissing ?? 0 > 0 else { return true }
        if let confirmedMissing, confirmedMissing == missing.count {
            if !missing.isEmpty {
                let count = "\(missing.count) snapshot\(missing.count == 1 ? "" : "s")"
                report.notes.append("\(count) missing, as confirmed: their unneeded contents will be removed")
            }
            return true
        }
        if isBusy, present == 0, missing.isEmpty, confirmedMissing == nil {
            report.notes.append("the first capture is still running: nothing can be removed yet")
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

    /// The intact indexes. Packs listed only by a damaged index, or by none (their capture died), are indexed again;
    /// then the damaged indexes are removed.
    func adopt(
        _ packs: inout [StoreName: PackUse], _ isYoung: (PackUse) -> Bool
    ) throws(ImageError) -> IndexSet {
        let (whole, damaged) = try wholeIndexes()
        for file in whole {
            for name in file.packs { packs[name]?.isIndexed = true }
        }
        var entries: [IndexEntry] = []
        var sources: [PackUse] = []
        var added: [IndexFile] = []
        var isComplete = true
        func write() throws(ImageError) {
            guard !entries.isEmpty else { return }
            do { if !dryRun { added.append(try writeIndex(entries)) } } catch {
                // A capture that ended for lack of space can leave packs without an index. What can be removed without
                // one makes the space.
                guard error.isFull else { throw error }
                isComplete = false
                for use in sources { packs[use.name]?.isIndexed = false }
                report.notes.append(
                    "\(sources.count) pack\(sources.count == 1 ? " that no index knows stays" : "s that no index knows stay"): "
                        + "there is no space for an index. Free some space and run the command again")
                sources = []
            }
            for use in sources { report.adopted.add(use.byteCount) }
            (entries, sources) = ([], [])
        }
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
                // A pack may be in no index because repair removed all its contents: only intact contents are indexed
                // again.
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
            // Its contents are treated like all others. A dry run writes no index for it, but if all indexes are intact
            // they already list every needed content.
            packs[use.name]?.isIndexed = !dryRun || damaged.isEmpty
            if wholeCount > 0 { sources.append(use) }
            if entries.count >= Self.entriesAtOnce { try write() }
        }
        try write()
        if !damaged.isEmpty, isComplete, !dryRun {
            try confirm()
            try repository.removeIndexes(damaged)
            report.notes.append("\(damaged.count) damaged indexes were rebuilt from the packs")
        }
        return IndexSet(files: whole + added, damaged: [])
    }

    /// The indexes that are whole, by reading all their pages, and the names of the others.
    private func wholeIndexes() throws(ImageError) -> (whole: [IndexFile], damaged: [StoreName]) {
        let set = try repository.indexSet()
        // An index that the medium fails to return is not damaged.
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
        return (whole, damaged)
    }

    /// The intact contents of a pack.
    /// - Throws: if a content cannot be read: that proves no damage.
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

    /// Adds the contents that all snapshots need. An unreadable snapshot is an error: its contents are unknown.
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
                    what: "\(what). The contents that it needs are unknown, so nothing was removed. If no copy of it "
                        + "is left, remove the file \(store.name(of: .snapshot(id))), then prune with "
                        + "--confirm-missing-snapshots 1",
                    fileOffset: offset, disk: disk, partition: partition)
            }
        }
        try references.settle()
        report.missingCount = references.missingCount
        if references.missingCount > 0 {
            report.notes.append(
                "\(references.missingCount) contents that snapshots need are in no pack: verify lists them. No pack is "
                    + "removed until they are stored again, or their snapshots are forgotten")
        }
    }

    /// Sums the needed bytes of each pack.
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
