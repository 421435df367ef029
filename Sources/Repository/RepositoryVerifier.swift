// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import ObjectStore

extension Repository {
    /// Looks at everything (indexes, packs' heads, tables and ends, snapshots, lists, maps), and where asked at contents.
    /// Goes on behind whatever it finds.
    /// - Parameters:
    ///   - readDataPercent: how much of the packs is read and identified, in percent, whole packs at random; `nil` for
    ///     nothing.
    ///   - snapshots: only these, and what they need; `nil` for all, and all packs.
    ///   - seed: which packs are read follows from it.
    ///   - note: is told what a person should know at once.
    ///   - progress: is told how far it is, on this thread.
    /// - Throws: only where it cannot go on at all.
    package func verify(
        readDataPercent: Double? = nil, snapshots: [ContentHash]? = nil,
        seed: UInt64 = UInt64.random(in: 0 ... .max), note: (String) -> Void = { _ in },
        progress: (VerifyProgress) -> Void = { _ in }
    ) throws(ImageError) -> VerifyReport {
        let lock = try store.lock(.verify, note: note)
        defer { lock.release() }
        let verifier = RepositoryVerifier(self, only: snapshots)
        try verifier.run(percent: readDataPercent, seed: seed, progress)
        return verifier.report
    }
}

/// One run of verify.
final class RepositoryVerifier {
    var report = VerifyReport()
    /// The contents that are damaged, by where they are.
    private(set) var damagedPlaces: [IndexEntry: String] = [:]
    /// The contents that the medium or the system did not give now: nobody knows whether they are damaged.
    private(set) var unreadPlaces: [IndexEntry: String] = [:]
    /// The packs that an index knows.
    private var indexedPacks: Set<StoreName> = []
    /// The pieces of lists and maps that could not be followed: what they concern was said then.
    private var unreadablePieces: Set<BlobKey> = []
    private let repository: Repository
    private let only: [ContentHash]?
    private var store: StoreAccess { repository.store }

    init(_ repository: Repository, only: [ContentHash]?) {
        self.repository = repository
        self.only = only
    }

    /// The most damaged contents that are remembered by name.
    private static let largestDamage = 1 << 16

    /// What adds up to the same for the same entries in any order.
    private struct Sum: Equatable {
        var count: UInt64 = 0
        var low: UInt64 = 0
        var high: UInt64 = 0

        mutating func add(_ entry: IndexEntry) {
            let (id, location) = (entry.key.words, entry.location)
            var mixed = id.0 ^ id.1 &* 0x9E37_79B9_7F4A_7C15
            mixed ^= (UInt64(location.offset) << 32 | UInt64(location.storedByteCount)) &* 0xBF58_476D_1CE4_E5B9
            mixed ^= (UInt64(location.contentByteCount) << 8 | UInt64(entry.key.kind.rawValue)) &* 0x94D0_49BB_1331_11EB
            mixed = (mixed ^ mixed >> 29) &* 0xBF58_476D_1CE4_E5B9
            count += 1
            low &+= mixed ^ mixed >> 32
            high &+= id.2 ^ id.3 ^ mixed.byteSwapped
        }
    }

    func run(
        percent: Double?, seed: UInt64, _ progress: (VerifyProgress) -> Void
    ) throws(ImageError) {
        do { _ = try RepositoryConfiguration.read(in: store) } catch { report.add("\(error)") }
        if repository.configuration.isEncrypted { checkKeys() }
        // Snapshots before indexes: what a snapshot needs was indexed before it.
        let ids: [ContentHash]
        if let only { ids = only } else { ids = try repository.snapshotIDs() }
        let marks = try? PruneMarks(store)
        let (indexes, sums) = try readIndexes(progress)
        indexedPacks = Set(sums.keys)
        let packs = try readPacks(indexes, sums, marks, progress)
        let references = try PruneReferences(
            repository, indexes, present: Set(packs.keys), marked: Set(marks.map { Array($0.packs.keys) } ?? []))
        let snapshots = readSnapshots(ids, references, progress)
        do { try references.settle() } catch { report.add("\(error)") }
        if let percent {
            report.seed = seed
            try readContents(
                packs, only == nil ? nil : references, percent: percent, seed: seed, progress)
        }
        attribute(snapshots, references, indexes)
    }

    /// Without its key files, an encrypted repository is lost with whoever has it open now.
    private func checkKeys() {
        do {
            let (keys, unusable) = try KeyStore(store).list()
            for one in unusable { report.add("\(one.error)") }
            if keys.isEmpty {
                report.add(
                    "no key file of \(repository.name) can be read: with no copy of one, no password opens it again")
            }
        } catch { report.add("\(error)") }
    }

    // MARK: Indexes and packs

    /// Reads all pages of all indexes.
    private func readIndexes(
        _ progress: (VerifyProgress) -> Void
    ) throws(ImageError) -> (IndexSet, [StoreName: Sum]) {
        let set = try repository.indexSet()
        for damage in set.damaged { report.add("\(damage.error)") }
        var whole: [IndexFile] = []
        for (number, file) in set.files.enumerated() {
            progress(.init(phase: .indexes, done: UInt64(number), total: UInt64(set.files.count)))
            report.indexCount += 1
            do {
                var cursor = IndexFile.Cursor(file)
                while try cursor.next() != nil {}
                whole.append(file)
            } catch { report.add("\(error)") }
        }
        let indexes = IndexSet(files: whole, damaged: [])
        var sums: [StoreName: Sum] = [:]
        var last: IndexEntry?
        var cursor = try indexes.mergedCursor()
        while let hit = try cursor.next() {
            // The same place in several indexes is one.
            if hit.hit.entry == last { continue }
            last = hit.hit.entry
            sums[hit.hit.entry.location.pack, default: Sum()].add(hit.hit.entry)
        }
        return (indexes, sums)
    }

    /// Reads the head, the table and the end of each pack, and compares the table with the indexes.
    /// - Returns: the packs that are there and what they hold can be read of, with their lengths.
    private func readPacks(
        _ indexes: IndexSet, _ sums: [StoreName: Sum], _ marks: PruneMarks?, _ progress: (VerifyProgress) -> Void
    ) throws(ImageError) -> [StoreName: UInt64] {
        var result: [StoreName: UInt64] = [:]
        let names = try store.packNames()
        var unknown = 0
        for (number, name) in names.enumerated() {
            if number % 100 == 0 {
                progress(.init(phase: .packs, done: UInt64(number), total: UInt64(names.count)))
            }
            report.packCount += 1
            do {
                let pack = try PackFile(name, store, repository.secrets)
                result[name] = pack.byteCount
                let table = try pack.table()
                var sum = Sum()
                for entry in table { sum.add(entry) }
                guard let known = sums[name] else {
                    unknown += 1
                    continue
                }
                if known != sum { try compare(table, known, pack, indexes) }
            } catch {
                // Removed since the listing, by a prune that had marked it before.
                if error.isMissingFile { continue }
                report.add("\(error)")
            }
        }
        if unknown > 0 {
            report.notes.append(
                "\(unknown) packs are in no index: a capture at work has them, or a killed one left them (prune takes "
                    + "care of them)")
        }
        let present = Set(names)
        for name in sums.keys.sorted() where !present.contains(name) && marks?.packs[name] == nil {
            report.add("the pack \(store.name(of: .pack(name))) is not there, but an index lists what it holds")
        }
        return result
    }

    /// The index and the pack do not agree on what the pack holds.
    private func compare(
        _ table: [IndexEntry], _ sum: Sum, _ pack: PackFile, _ indexes: IndexSet
    ) throws(ImageError) {
        var indexed = Sum()
        for entry in table where try indexes.hits(entry.key).contains(where: { $0.hit.entry == entry }) {
            indexed.add(entry)
        }
        if indexed != sum {
            report.add("an index lists contents of \(pack.path) that the pack itself does not list")
        }
        if indexed.count < UInt64(table.count) {
            report.notes.append(
                "\(UInt64(table.count) - indexed.count) contents of \(pack.path) are in no index (repair took them out)"
            )
        }
    }

    // MARK: Snapshots

    /// Follows the lists and maps of all snapshots, and adds what they need to the references.
    /// - Returns: the snapshots that could be read.
    private func readSnapshots(
        _ ids: [ContentHash], _ references: PruneReferences, _ progress: (VerifyProgress) -> Void
    ) -> [ContentHash] {
        /// Regions, and pairs of a list piece and a map piece, that were found whole: equal ones need no second look.
        var wholeRegions: Set<Int> = []
        var wholePieces: Set<Int> = []
        var result: [ContentHash] = []
        for (number, id) in ids.enumerated() {
            progress(.init(phase: .snapshots, done: UInt64(number), total: UInt64(ids.count)))
            let snapshot: Snapshot
            do { snapshot = try repository.snapshot(id) } catch {
                // Forgotten since the listing, unless somebody asked for this one.
                if case .missing = error, only == nil { continue }
                report.add(.init(snapshot: id, what: "\(error)"))
                continue
            }
            report.snapshotCount += 1
            result.append(id)
            for (index, region) in snapshot.manifest.regions.enumerated() {
                var hasher = Hasher()
                hasher.combine(snapshot.regions[index].lists)
                hasher.combine(snapshot.regions[index].maps)
                hasher.combine(region.range.byteCount)
                hasher.combine(region.usedByteCount)
                let digest = hasher.finalize()
                if wholeRegions.contains(digest) { continue }
                let before = report.problemCount
                read(region, index, snapshot, references, &wholePieces)
                if report.problemCount == before { wholeRegions.insert(digest) }
            }
        }
        return result
    }

    private func read(
        _ region: Manifest.Region, _ index: Int, _ snapshot: Snapshot, _ references: PruneReferences,
        _ wholePieces: inout Set<Int>
    ) {
        let chunk = UInt64(snapshot.manifest.chunkByteCount)
        let pieces = snapshot.regions[index]
        var map = AllocationMap(byteCount: region.range.byteCount)
        var isMapWhole = true
        func problem(_ span: ByteRange, _ what: String) {
            report.add(
                .init(
                    snapshot: snapshot.info.id, partition: region.partition,
                    disk: span.shifted(up: region.range.lowerBound), what: what))
        }
        for (number, id) in pieces.maps.enumerated() {
            let span = Snapshot.span(ofPiece: number, region, Int(chunk))
            do {
                try references.need(BlobKey(id, .map), byteCount: 0)
                try MapPiece.insert(try references.map(id), span: span, into: &map)
            } catch {
                isMapWhole = false
                unreadablePieces.insert(BlobKey(id, .map))
                problem(span, "the allocation map: \(error)")
            }
        }
        if isMapWhole, map.usedByteCount != region.usedByteCount {
            isMapWhole = false
            problem(0..<region.range.byteCount, "the allocation map has another number of used bytes")
        }
        for (number, id) in pieces.lists.enumerated() {
            let span = Snapshot.span(ofPiece: number, region, Int(chunk))
            // The last piece of a region is cut off by its end: the same bytes mean something else elsewhere.
            let isFull = span.byteCount == chunk * UInt64(RepositoryFormat.pieceChunkCount)
            var hasher = Hasher()
            hasher.combine(id)
            hasher.combine(number < pieces.maps.count ? pieces.maps[number] : id)
            let digest = hasher.finalize()
            if isFull, wholePieces.contains(digest) { continue }
            do {
                try references.need(BlobKey(id, .list), byteCount: 0)
                let list = try references.list(id, snapshot, region, piece: number)
                try references.add(list, region, piece: number, Int(chunk))
                var isWhole = isMapWhole
                var position = span.lowerBound
                for entry in list.entries {
                    guard case .run(let kind, let count) = entry else {
                        position += chunk
                        continue
                    }
                    let run = position..<min(span.upperBound, position + count * chunk)
                    position = run.upperBound
                    if isMapWhole, kind == .unused, !map.ranges(in: run).isEmpty {
                        isWhole = false
                        problem(run, "a run called unused where the map says used")
                    }
                }
                if isFull, isWhole { wholePieces.insert(digest) }
            } catch {
                unreadablePieces.insert(BlobKey(id, .list))
                if case .damaged(let name, let what, let offset, _, _) = error {
                    problem(span, "the list of chunks: \(what) (\(name), byte \(offset))")
                } else {
                    problem(span, "the list of chunks: \(error)")
                }
            }
        }
    }

    // MARK: Contents

    /// What the threads that read contents share.
    private struct Reading {
        var waiting = 0
        var readCount: UInt64 = 0
        var readByteCount: UInt64 = 0
        var damage: [(entry: IndexEntry?, what: String, isUnread: Bool)] = []
        /// More damage, beyond what is remembered.
        var unlistedCount = 0
    }

    /// Reads whole packs, chosen at random, on several threads.
    private func readContents(
        _ packs: [StoreName: UInt64], _ references: PruneReferences?, percent: Double, seed: UInt64,
        _ progress: (VerifyProgress) -> Void
    ) throws(ImageError) {
        /// What of each pack is looked at.
        var names = packs.keys.sorted()
        if let references { names = try packsOf(references, names) }
        let total = names.reduce(0) { $0 + (packs[$1] ?? 0) }
        report.storedByteCount = total
        if percent < 100 { names = Self.shuffled(names, seed: seed) }
        let wanted = percent >= 100 ? UInt64.max : UInt64(Double(total) * max(0, percent) / 100)
        let reading = Monitor(Reading())
        let queue = BoundedQueue<[IndexEntry]>(capacity: 2)
        let repository = repository
        var threads: [WorkerThread] = []
        defer {
            queue.close()
            for thread in threads { thread.join() }
        }
        do {
            for _ in 0..<max(1, SystemFacts.processorCount()) {
                threads.append(try WorkerThread { Self.read(queue, repository, reading) })
            }
        } catch { throw .system(error) }
        var chosen: UInt64 = 0
        var packsChosen = 0
        for name in names where chosen < wanted {
            chosen += packs[name] ?? 0
            packsChosen += 1
        }
        for name in names.prefix(packsChosen) {
            let entries: [IndexEntry]
            do {
                let table = try PackFile(name, store, repository.secrets).table()
                entries = try references.map { try Self.needed(table, $0) } ?? table
            } catch {
                // What is wrong with its table was said before.
                continue
            }
            guard !entries.isEmpty else { continue }
            reading.update { $0.waiting += 1 }
            queue.push(entries)
            let done = reading.update { $0.readByteCount }
            progress(.init(phase: .contents, done: done, total: chosen))
        }
        _ = reading.wait { $0.waiting == 0 ? true : nil }
        let result = reading.update { $0 }
        report.readCount = result.readCount
        report.readByteCount = result.readByteCount
        progress(.init(phase: .contents, done: result.readByteCount, total: max(chosen, result.readByteCount)))
        for damage in result.damage {
            if let entry = damage.entry {
                if damage.isUnread { unreadPlaces[entry] = damage.what } else { damagedPlaces[entry] = damage.what }
            } else {
                report.add(damage.what)
            }
        }
        if result.unlistedCount > 0 {
            report.add("\(result.unlistedCount) more contents are damaged; whose they are is not listed")
        }
    }

    private static func needed(
        _ table: [IndexEntry], _ references: PruneReferences
    ) throws(ImageError) -> [IndexEntry] {
        var result: [IndexEntry] = []
        for entry in table where try references.isNeeded(entry) { result.append(entry) }
        return result
    }

    /// The packs with contents that are needed.
    private func packsOf(_ references: PruneReferences, _ names: [StoreName]) throws(ImageError) -> [StoreName] {
        var used: Set<StoreName> = []
        var cursor = try references.indexes.mergedCursor()
        while let hit = try cursor.next() {
            if references.isNeeded(hit) { used.insert(hit.hit.entry.location.pack) }
        }
        return names.filter { used.contains($0) }
    }

    private static func shuffled(_ names: [StoreName], seed: UInt64) -> [StoreName] {
        /// SplitMix64.
        struct Generator: RandomNumberGenerator {
            var state: UInt64
            mutating func next() -> UInt64 {
                state &+= 0x9E37_79B9_7F4A_7C15
                var mixed = state
                mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
                mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
                return mixed ^ mixed >> 31
            }
        }
        var generator = Generator(state: seed)
        return names.shuffled(using: &generator)
    }

    /// One thread: takes the entries of a pack, reads them, compares them with their names.
    private static func read(
        _ queue: BoundedQueue<[IndexEntry]>, _ repository: Repository, _ reading: Monitor<Reading>
    ) {
        let check = ContentCheck(repository)
        while let entries = queue.pop() {
            var count: UInt64 = 0
            var byteCount: UInt64 = 0
            var damage: [(entry: IndexEntry?, what: String, isUnread: Bool)] = []
            let pack: PackFile?
            do {
                pack = try entries.first.map { try PackFile($0.location.pack, repository.store, repository.secrets) }
            } catch {
                pack = nil
                if !((error as? ImageError)?.isMissingFile ?? false) { damage.append((nil, "\(error)", true)) }
            }
            if let pack {
                for entry in entries {
                    count += 1
                    byteCount += UInt64(entry.location.storedByteCount)
                    do {
                        try pack.checkRecord(entry)
                        _ = try check.stored(entry, in: pack)
                    } catch {
                        // An error of the medium, or of the way to it, may be gone tomorrow: it proves no damage.
                        var isUnread = false
                        if case .system = error { isUnread = true }
                        damage.append((entry, "\(error)", isUnread))
                    }
                }
            }
            reading.update {
                $0.readCount += count
                $0.readByteCount += byteCount
                // Beyond, it is clear that everything is broken.
                let room = max(0, Self.largestDamage - $0.damage.count)
                $0.damage += damage.prefix(room)
                $0.unlistedCount += max(0, damage.count - room)
                $0.waiting -= 1
            }
        }
    }

    // MARK: Whose damage it is

    /// Says for all that is damaged or missing which bytes of which disks it concerns.
    private func attribute(_ ids: [ContentHash], _ references: PruneReferences, _ indexes: IndexSet) {
        // What repair took out of the indexes is still in its pack, and harms nobody there.
        var places = damagedPlaces.merging(unreadPlaces) { damaged, _ in damaged }
        var quarantinedCount = 0
        for entry in places.keys where indexedPacks.contains(entry.location.pack) {
            let isIndexed = (try? indexes.hits(entry.key))?.contains { $0.hit.entry == entry } ?? true
            if isIndexed { continue }
            places[entry] = nil
            damagedPlaces[entry] = nil
            quarantinedCount += 1
        }
        if quarantinedCount > 0 {
            report.notes.append(
                "\(quarantinedCount) damaged contents are in packs, but in no index: nothing relies on them")
        }
        var bad: [BlobKey: String] = [:]
        var whole: Set<BlobKey> = []
        for (entry, what) in places {
            // Another copy may be good: one that was not read counts as good, but the damage is said in any case.
            let others = ((try? indexes.hits(entry.key)) ?? []).map(\.hit.entry).filter {
                $0 != entry && places[$0] == nil
            }
            if others.isEmpty { bad[entry.key] = what } else { whole.insert(entry.key) }
        }
        for (entry, what) in places where whole.contains(entry.key) && bad[entry.key] == nil {
            report.add("\(what); another copy of it is there")
        }
        for key in references.missing where bad[key] == nil { bad[key] = "no pack has the content \(key.id)" }
        if references.missingCount > references.missing.count {
            report.add("\(references.missingCount) contents are in no pack; only some of them are listed")
        }
        guard !bad.isEmpty else { return }
        var used: Set<BlobKey> = []
        for id in ids {
            guard let snapshot = try? repository.snapshot(id) else { continue }
            for (index, region) in snapshot.manifest.regions.enumerated() {
                attribute(bad, &used, snapshot, region, snapshot.regions[index], references)
            }
        }
        for (key, what) in bad where !used.contains(key) {
            report.add("\(what); no snapshot\(only == nil ? "" : " of these") needs it")
        }
    }

    private func attribute(
        _ bad: [BlobKey: String], _ used: inout Set<BlobKey>, _ snapshot: Snapshot, _ region: Manifest.Region,
        _ pieces: Snapshot.RegionPieces, _ references: PruneReferences
    ) {
        let chunk = UInt64(snapshot.manifest.chunkByteCount)
        func problem(_ span: ByteRange, _ what: String) {
            report.add(
                .init(
                    snapshot: snapshot.info.id, partition: region.partition,
                    disk: span.shifted(up: region.range.lowerBound), what: what))
        }
        for (number, id) in pieces.lists.enumerated() {
            let span = Snapshot.span(ofPiece: number, region, Int(chunk))
            for (key, name) in [
                (BlobKey(id, .list), "the list of chunks"),
                (BlobKey(number < pieces.maps.count ? pieces.maps[number] : id, .map), "the allocation map"),
            ] {
                guard let what = bad[key] else { continue }
                used.insert(key)
                if !unreadablePieces.contains(key) { problem(span, "\(name): \(what)") }
            }
            guard let list = try? references.list(id, snapshot, region, piece: number) else { continue }
            var position = span.lowerBound
            for entry in list.entries {
                switch entry {
                case .run(_, let count): position += count * chunk
                case .data(let id):
                    let range = position..<min(span.upperBound, position + chunk)
                    position = range.upperBound
                    let key = BlobKey(id, .data)
                    if let what = bad[key] {
                        used.insert(key)
                        problem(range, what)
                    }
                }
            }
        }
    }
}
