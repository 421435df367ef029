// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import LinuxSystem
import SystemPackage

/// How far a prune is.
public enum PruneStep: String, Sendable, CaseIterable {
    /// Packs that no index knew were indexed.
    case adopted
    /// It is known what snapshots need.
    case referenced
    /// What mostly unneeded packs still have was copied.
    case repacked
    /// Packs are marked.
    case marked
    /// The marks are complete.
    case batched
    /// Indexes without the packs that go are there, beside those with them.
    case indexed
    /// Only those without them are there.
    case unindexed
    /// The packs are gone.
    case removed
    /// Their marks too.
    case unmarked
}

extension Repository {
    /// The grace time unless another is asked for: a day, in seconds.
    public static let usualGrace = 24.0 * 3600

    /// Removes what no snapshot needs: packs are marked first and removed when they have been unneeded for the grace
    /// time, so that captures at the same time and readers without a lock lose nothing. RepositoryFormat.md has the
    /// phases.
    /// - Parameters:
    ///   - grace: how long readers without a lock may need what is unneeded now, in seconds.
    ///   - dryRun: nothing is changed; the report says what would be.
    ///   - waiting: how long to wait for other maintenance, in seconds.
    ///   - note: is told what a person should know at once: whom it waits for, stale locks.
    ///   - progress: is told how far it is.
    /// - Throws: where something is damaged so that nobody knows what is needed: then nothing is removed.
    public func prune(
        grace: Double = Repository.usualGrace, dryRun: Bool = false, waiting: Double = 0,
        note: (String) -> Void = { _ in }, progress: (PruneStep) -> Void = { _ in }
    ) throws(ImageError) -> PruneReport {
        try prune(grace: grace, dryRun: dryRun, waiting: waiting, note: note) { (step) throws(ImageError) in
            progress(step)
        }
    }

    /// - Parameter reached: is called at each step, and may end it there: for tests of crashes.
    func prune(
        grace: Double, dryRun: Bool, waiting: Double, note: (String) -> Void,
        reached: (PruneStep) throws(ImageError) -> Void
    ) throws(ImageError) -> PruneReport {
        // A dry run writes nothing, and can do without a lock where none can be had.
        let lock =
            dryRun
            ? try? RepositoryLock.acquire(
                at: path, operation: .verify, waiting: 0, refreshSeconds: LockRecord.refreshSeconds,
                removesStale: false, note: note)
            : try RepositoryLock.acquire(at: path, operation: .prune, waiting: waiting, note: note)
        defer { lock?.release() }
        let pruner = Pruner(self, lock: lock, grace: grace, dryRun: dryRun)
        try pruner.run(reached)
        return pruner.report
    }
}

/// One run of prune.
final class Pruner {
    var report = PruneReport()
    let repository: Repository
    private let lock: RepositoryLock?
    private let grace: Double
    private let dryRun: Bool
    private var layout: RepositoryLayout { repository.layout }

    /// A pack is copied where at least this share of it is unneeded.
    private static let repackShare = 0.25
    /// The most entries of new packs that are held before an index is written.
    private static let entriesAtOnce = 100_000

    init(_ repository: Repository, lock: RepositoryLock?, grace: Double, dryRun: Bool) {
        self.repository = repository
        self.lock = lock
        self.grace = max(0, grace)
        self.dryRun = dryRun
        report.isDryRun = dryRun
    }

    /// What is known of a pack.
    struct PackUse {
        var name: StoreName
        var byteCount: UInt64
        var modified: Int64
        /// The stored bytes of contents that snapshots need, by the places that were chosen.
        var neededByteCount: UInt64 = 0
        /// The stored bytes of all contents that indexes know in it.
        var knownByteCount: UInt64 = 0
        /// Whether any index knows it.
        var isIndexed = false
        /// Whether it has a content that is needed, but chosen in another pack: an older reader may look for it here.
        var hasCopies = false
        /// Whether what was needed of it was copied by this run.
        var isRepacked = false
    }

    func run(_ reached: (PruneStep) throws(ImageError) -> Void) throws(ImageError) {
        let now = lock?.keeperSeconds() ?? SystemFacts.unixSeconds()
        // Who is at work is asked before the snapshots are listed: of two that are gone or done by then, one has
        // published nothing, and the other's snapshot is in the list.
        let others = try RepositoryLock.held(
            at: repository.path, besides: lock?.record?.uuid, now: now, removesStale: !dryRun)
        let alive = Set(others.map(\.uuid))
        let writers = others.filter { $0.mayWrite }
        var marks = try PruneMarks(layout)
        let ids = try repository.snapshotIDs()
        var packs = try listPacks()
        // Packs that came since the first capture began that is still at work may be its own.
        let firstWriter = writers.map { $0.record.flatMap { TimeText($0.started)?.unixSeconds } ?? .min }.min()
        func isYoung(_ pack: PackUse) -> Bool { firstWriter.map { pack.modified >= $0 - 60 } ?? false }

        let indexes = try adopt(&packs, isYoung)
        try reached(.adopted)

        let marked = Set(marks.packs.keys)
        let references = try PruneReferences(
            repository, indexes, present: Set(packs.keys), marked: marked)
        try addReferences(ids, references)
        report.snapshotCount = ids.count
        try account(references, indexes, &packs)
        try reached(.referenced)

        // Marked before, and needed again.
        for (name, use) in packs where use.neededByteCount > 0 && marked.contains(name) {
            report.unmarked.add(use.byteCount)
            marks.packs[name] = nil
            if !dryRun { try remove(layout.marks.appending(name.description)) }
        }
        // Where something needed is nowhere, nobody knows what else is wrong, and which copy somebody will look for.
        let isLacking = report.missingCount > 0
        let repacked = isLacking ? [] : try repack(packs.values.filter { !isYoung($0) }, references, indexes)
        for name in repacked { packs[name]?.isRepacked = true }
        try reached(.repacked)

        let unneeded = packs.values.filter {
            $0.isIndexed && ($0.neededByteCount == 0 || $0.isRepacked)
                && (!isYoung($0) || marks.batch(of: $0.name) != nil)
        }
        // A mark whose batch was not finished, or comes from the future (a clock was turned back), counts from now.
        let fresh = unneeded.filter { use in marks.batch(of: use.name).map { $0.time > now + 3600 } ?? true }
        var going: [PackUse] = []
        /// Whether it was unneeded for long enough.
        func isDue(_ use: PackUse, markedAt time: Int64) -> Bool {
            var age = Double(now - time)
            // What no snapshot needed that was there within the grace time, no reader can be reading either.
            if !use.hasCopies, !use.isRepacked {
                if let last = marks.lastForgotten, use.modified <= last {
                    age = max(age, Double(now - last))
                } else {
                    age = .infinity
                }
            }
            return age >= grace
        }
        for use in unneeded {
            guard let batch = marks.batch(of: use.name), batch.time <= now + 3600 else { continue }
            if !isLacking, isDue(use, markedAt: batch.time), batch.holders.isDisjoint(with: alive) {
                going.append(use)
            } else {
                report.waiting.add(use.byteCount)
            }
        }
        // What is marked now can go at once where nobody is there who could have relied on it before.
        let holders = try mark(fresh.map(\.name), reached)
        // One who came and finished meanwhile has left a snapshot.
        let isAlone = Set(try repository.snapshotIDs()).isSubset(of: ids) && holders.isEmpty
        for use in fresh {
            if !isLacking, isAlone, isDue(use, markedAt: now) {
                going.append(use)
            } else {
                report.waiting.add(use.byteCount)
                report.newlyMarked.add(use.byteCount)
            }
        }
        for use in going { report.removed.add(use.byteCount) }
        let gone = marks.packs.keys.filter { packs[$0] == nil }
        try removePacks(going.map(\.name), marksOfMissing: isLacking ? [] : Array(gone), reached)
        try cleanUp(keeping: Set(unneeded.map(\.name)).subtracting(going.map(\.name)))
    }

    func confirm() throws(ImageError) { try lock?.confirm() }

    // MARK: Survey

    func listPacks() throws(ImageError) -> [StoreName: PackUse] {
        var packs: [StoreName: PackUse] = [:]
        for name in try layout.packNames() {
            let status: Files.Status?
            do { status = try Files.status(layout.pack(name)) } catch { throw .system(error) }
            guard let status, status.isFile else { continue }
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
                let pack = try PackFile(use.name, layout, repository.secrets)
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

    private func writeIndex(_ entries: [IndexEntry]) throws(ImageError) -> IndexFile {
        let writer = try IndexWriter(
            layout, repository.secrets, expectedEntryCount: UInt64(entries.count))
        for entry in entries.sorted(by: { $0.key < $1.key }) { try writer.add(entry) }
        try confirm()
        _ = try writer.finish()
        return try IndexFile(writer.name, layout, repository.secrets)
    }

    /// All that snapshots need. One that cannot be read needs nobody knows what.
    private func addReferences(_ ids: [ContentHash], _ references: PruneReferences) throws(ImageError) {
        for id in ids {
            do { try references.add(try repository.snapshot(id)) } catch {
                // Forgotten since the listing.
                if case .missing = error { continue }
                guard case .damaged(_, let what, let offset, let disk, let partition) = error else { throw error }
                throw .damaged(
                    name: repository.name(of: id),
                    what: "\(what). What it needs cannot be told, so nothing is removed. If no copy of it is "
                        + "left, remove the file \(layout.snapshot(id)), then prune again",
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

    // MARK: Repack

    /// Copies what is needed of packs that are mostly unneeded to new packs, and checks it on the way.
    /// - Returns: the packs that nothing is needed of any more.
    private func repack(
        _ packs: [PackUse], _ references: PruneReferences, _ indexes: IndexSet
    ) throws(ImageError) -> [StoreName] {
        func wasted(_ use: PackUse) -> Double { 1 - Double(use.neededByteCount) / Double(max(1, use.knownByteCount)) }
        let candidates = packs.filter { $0.neededByteCount > 0 && wasted($0) >= Self.repackShare }
            .sorted { (wasted($0), $1.name) > (wasted($1), $0.name) }
        let check = ContentCheck(repository)
        var output: PackWriter?
        var entries: [IndexEntry] = []
        /// Copied, but not indexed yet.
        var copied: [PackUse] = []
        var result: [StoreName] = []
        func commit() throws(ImageError) {
            guard let pack = output else { return }
            output = nil
            try pack.finish()
            try confirm()
            try pack.commit()
            entries += pack.entries
        }
        func publish() throws(ImageError) {
            try commit()
            if !entries.isEmpty { _ = try writeIndex(entries) }
            entries = []
            for use in copied {
                result.append(use.name)
                report.repacked.add(use.byteCount)
                report.copiedByteCount += use.neededByteCount
            }
            copied = []
        }
        for use in candidates {
            if dryRun {
                copied.append(use)
                continue
            }
            // The copy and the original are both there for the grace time.
            if let free = Files.freeByteCount(repository.path), free < use.neededByteCount * 2 + (64 << 20) {
                report.notes.append("packs that are mostly unneeded were not copied: there is too little space")
                break
            }
            do {
                let pack = try PackFile(use.name, layout, repository.secrets)
                for entry in try pack.table() where try references.isNeeded(entry) {
                    let stored = try check.stored(entry, in: pack)
                    let target: PackWriter
                    if let open = output {
                        target = open
                    } else {
                        target = try PackWriter(layout, repository.secrets)
                        output = target
                    }
                    let outcome = unsafe stored.withUnsafeBytes { stored in
                        Result { () throws(ImageError) in
                            unsafe try target.append(
                                entry.key, contentByteCount: Int(entry.location.contentByteCount), stored: stored)
                        }
                    }
                    _ = try outcome.get()
                    if target.isFull { try commit() }
                }
            } catch {
                // Damage stays where it is: verify says whose it is.
                guard case .damaged = error else {
                    output?.discard()
                    throw error
                }
                report.notes.append("a pack was not copied: \(error)")
                continue
            }
            copied.append(use)
            if entries.count >= Self.entriesAtOnce { try publish() }
        }
        try publish()
        return result
    }

    // MARK: Marks

    /// Marks packs, and then notes who holds a lock that is older than the marks.
    /// - Returns: those.
    private func mark(
        _ names: [StoreName], _ reached: (PruneStep) throws(ImageError) -> Void
    ) throws(ImageError) -> [GUID] {
        func holders() throws(ImageError) -> [GUID] {
            try RepositoryLock.held(
                at: repository.path, besides: lock?.record?.uuid,
                now: lock?.keeperSeconds() ?? SystemFacts.unixSeconds(), removesStale: !dryRun
            )
            .filter { $0.record?.reliesOnContents ?? true }.map(\.uuid)
        }
        guard !dryRun, !names.isEmpty else { return try holders() }
        try confirm()
        let uuid = GUID.random()
        do {
            let bytes = try JSONText.encode(PruneMark(batch: uuid))
            for name in names { try writeMark(bytes, name.description) }
            try reached(.marked)
            // A capture whose lock is not seen now sees the marks.
            let holders = try holders()
            let batch = PruneBatch(
                format: PruneBatch.format, uuid: uuid, marked: SystemFacts.utcText(SystemFacts.unixSeconds()),
                holders: holders)
            try writeMark(try JSONText.encode(batch, pretty: true), PruneBatch.fileName(uuid))
            try reached(.batched)
            return holders
        } catch { throw .about(layout.marks, error) }
    }

    /// Not by way of the medium: a mark that is lost in a power cut is made again. On a full disk, an empty file has to
    /// do: captures go by its name, and a batch that cannot be read is not complete.
    private func writeMark(_ bytes: [UInt8], _ name: String) throws(ImageError) {
        let path = layout.marks.appending(name)
        let temporary = layout.temporary.appending("\(name).\(TemporaryFiles.suffix)")
        do {
            let file = try OwnedDescriptor.open(
                temporary, .writeOnly, options: [.create, .truncate, .noFollow],
                permissions: [.ownerReadWrite, .groupRead, .otherRead])
            do { _ = try file.raw.writeAll(bytes) } catch {
                let reason = error as? Errno ?? .ioError
                guard reason == .noSpace else {
                    try? Files.remove(temporary)
                    throw SystemCallError("write", temporary.string, reason)
                }
                try Files.resize(file.raw, temporary.string, to: 0)
            }
            try Files.rename(temporary, to: path)
        } catch { throw .about(path, error) }
    }

    // MARK: Removal

    /// Takes packs out of the indexes, then removes them, then their marks.
    private func removePacks(
        _ names: [StoreName], marksOfMissing: [StoreName], _ reached: (PruneStep) throws(ImageError) -> Void
    ) throws(ImageError) {
        guard !dryRun, !names.isEmpty || !marksOfMissing.isEmpty else { return }
        let going = Set(names).union(marksOfMissing)
        var isRemoved = false
        do { try removeFromIndexes(going, reached) } catch {
            // A full disk has no room for the new index. Marked packs are not relied on by anybody: they may go first,
            // as long as their marks stay until the indexes are done.
            guard case .system(let reason) = error, reason.errno == .noSpace, !names.isEmpty else { throw error }
            try makeMarksDurable(names)
            try removeFiles(names)
            isRemoved = true
            try removeFromIndexes(going, reached)
        }
        if !isRemoved { try removeFiles(names) }
        try reached(.removed)
        for name in going { try remove(layout.marks.appending(name.description)) }
        try reached(.unmarked)
    }

    private func removeFiles(_ names: [StoreName]) throws(ImageError) {
        for (number, name) in names.enumerated() {
            if number % 100 == 0 { try confirm() }
            try remove(layout.pack(name))
        }
    }

    /// Writes the indexes that know these packs anew, without them.
    private func removeFromIndexes(
        _ going: Set<StoreName>, _ reached: (PruneStep) throws(ImageError) -> Void
    ) throws(ImageError) {
        let old = try repository.writeIndexes(without: { going.contains($0.location.pack) }, of: going, confirm)
        try reached(.indexed)
        try repository.removeIndexes(old)
        try reached(.unindexed)
    }

    private func makeMarksDurable(_ names: [StoreName]) throws(ImageError) {
        do {
            for name in names {
                let path = layout.marks.appending(name.description)
                let file = try OwnedDescriptor.open(path, .readOnly)
                try Files.sync(file.raw, path.string)
            }
            try Files.syncFolder(of: layout.marks.appending("x"))
        } catch { throw .system(error) }
    }

    private func remove(_ path: FilePath) throws(ImageError) {
        do { try Files.remove(path) } catch {
            if error.errno != .noSuchFileOrDirectory { throw .system(error) }
        }
    }

    /// Removes batches that no mark refers to, and what killed processes left.
    private func cleanUp(keeping packs: Set<StoreName>) throws(ImageError) {
        if dryRun { return }
        report.temporaryByteCount = TemporaryFiles.removeStale(layout)
        let marks = try PruneMarks(layout)
        let used = Set(marks.packs.values.compactMap { $0 })
        for uuid in marks.batches.keys where !used.contains(uuid) {
            try remove(layout.marks.appending(PruneBatch.fileName(uuid)))
        }
    }
}
