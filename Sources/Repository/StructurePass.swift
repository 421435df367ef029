// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import ObjectStore

/// The first pass of verify, which checks everything except contents: it reads the configuration, key files, indexes,
/// the heads, tables and ends of packs, snapshots, lists and maps, and compares them.
struct StructurePass {
    private let repository: Repository
    private let only: [ContentHash]?
    private var store: StoreAccess { repository.store }

    /// - Parameter only: the snapshots to follow; `nil` for all.
    init(_ repository: Repository, only: [ContentHash]?) {
        self.repository = repository
        self.only = only
    }

    func run(
        _ report: inout VerifyReport, _ progress: (VerifyProgress) -> Void
    ) throws(ImageError) -> VerifiedStructure {
        do { _ = try RepositoryConfiguration.read(in: store) } catch { report.add("\(error)") }
        if repository.configuration.isEncrypted { checkKeys(&report) }
        // Snapshots are listed before indexes: the contents of a snapshot were indexed before it.
        let ids: [ContentHash]
        if let only { ids = only } else { ids = try repository.snapshotIDs() }
        let marks = try? PruneMarks(store)
        let (indexes, sums) = try readIndexes(&report, progress)
        let packs = try readPacks(indexes, sums, marks, &report, progress)
        let references = try PruneReferences(
            repository, indexes, present: Set(packs.keys), marked: Set(marks.map { Array($0.packs.keys) } ?? []))
        let walk = readSnapshots(ids, references, &report, progress)
        do { try references.settle() } catch { report.add("\(error)") }
        return VerifiedStructure(
            indexes: indexes, indexedPacks: Set(sums.keys), packs: packs, references: references,
            snapshots: walk.snapshots, unreadablePieces: walk.unreadablePieces)
    }

    /// Without a key file, no password opens an encrypted repository.
    private func checkKeys(_ report: inout VerifyReport) {
        do {
            let (keys, unusable) = try KeyStore(store).list()
            for one in unusable { report.add("\(one.error)") }
            if keys.isEmpty {
                report.add(
                    "no key file of \(repository.name) can be read: without a copy of one, no password opens it")
            }
        } catch { report.add("\(error)") }
    }

    // MARK: Indexes and packs

    /// An order-independent sum over entries.
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

    /// Reads all pages of all indexes.
    private func readIndexes(
        _ report: inout VerifyReport, _ progress: (VerifyProgress) -> Void
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
            // Count the same place in several indexes once.
            if hit.hit.entry == last { continue }
            last = hit.hit.entry
            sums[hit.hit.entry.location.pack, default: Sum()].add(hit.hit.entry)
        }
        return (indexes, sums)
    }

    /// Reads the head, the table and the end of each pack, and compares the table with the indexes.
    /// - Returns: the packs that exist and can be opened, with their lengths.
    private func readPacks(
        _ indexes: IndexSet, _ sums: [StoreName: Sum], _ marks: PruneMarks?, _ report: inout VerifyReport,
        _ progress: (VerifyProgress) -> Void
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
                if known != sum { try compare(table, known, pack, indexes, &report) }
            } catch {
                // A prune removed it since the listing; it had marked it before.
                if error.isMissingFile { continue }
                report.add("\(error)")
            }
        }
        if unknown > 0 {
            report.notes.append(
                "\(unknown) packs are in no index: they belong to a running capture, or a killed one left them (prune "
                    + "indexes them)")
        }
        let present = Set(names)
        for name in sums.keys.sorted() where !present.contains(name) && marks?.packs[name] == nil {
            report.add("the pack \(store.name(of: .pack(name))) is missing, but an index lists its contents")
        }
        return result
    }

    /// Reports the difference between the indexes and the table of a pack.
    private func compare(
        _ table: [IndexEntry], _ sum: Sum, _ pack: PackFile, _ indexes: IndexSet, _ report: inout VerifyReport
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

    /// The results of following the snapshots.
    private struct Walk {
        /// The readable snapshots.
        var snapshots: [ContentHash] = []
        /// The pieces of lists and maps that could not be followed.
        var unreadablePieces: Set<BlobKey> = []
        /// Digests of intact regions: equal ones need no second check.
        var wholeRegions: Set<Int> = []
        /// Digests of intact pairs of a list piece and a map piece.
        var wholePieces: Set<Int> = []
    }

    /// Follows the lists and maps of all snapshots, and adds their contents to the references.
    private func readSnapshots(
        _ ids: [ContentHash], _ references: PruneReferences, _ report: inout VerifyReport,
        _ progress: (VerifyProgress) -> Void
    ) -> Walk {
        var walk = Walk()
        for (number, id) in ids.enumerated() {
            progress(.init(phase: .snapshots, done: UInt64(number), total: UInt64(ids.count)))
            let snapshot: Snapshot
            do { snapshot = try repository.snapshot(id) } catch {
                // It was forgotten since the listing. Skip it unless this snapshot was requested.
                if case .missing = error, only == nil { continue }
                report.add(.init(snapshot: id, what: "\(error)"))
                continue
            }
            report.snapshotCount += 1
            walk.snapshots.append(id)
            for (index, region) in snapshot.manifest.regions.enumerated() {
                var hasher = Hasher()
                hasher.combine(snapshot.regions[index].lists)
                hasher.combine(snapshot.regions[index].maps)
                hasher.combine(region.range.byteCount)
                hasher.combine(region.usedByteCount)
                let digest = hasher.finalize()
                if walk.wholeRegions.contains(digest) { continue }
                let before = report.problemCount
                read(region, index, snapshot, references, &walk, &report)
                if report.problemCount == before { walk.wholeRegions.insert(digest) }
            }
        }
        return walk
    }

    private func read(
        _ region: Manifest.Region, _ index: Int, _ snapshot: Snapshot, _ references: PruneReferences,
        _ walk: inout Walk, _ report: inout VerifyReport
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
                walk.unreadablePieces.insert(BlobKey(id, .map))
                problem(span, "the allocation map: \(error)")
            }
        }
        if isMapWhole, map.usedByteCount != region.usedByteCount {
            isMapWhole = false
            problem(0..<region.range.byteCount, "the allocation map has another number of used bytes")
        }
        for (number, id) in pieces.lists.enumerated() {
            let span = Snapshot.span(ofPiece: number, region, Int(chunk))
            // The last piece of a region is cut off by the region's end: the same bytes mean something else in another
            // region.
            let isFull = span.byteCount == chunk * UInt64(RepositoryFormat.pieceChunkCount)
            var hasher = Hasher()
            hasher.combine(id)
            hasher.combine(number < pieces.maps.count ? pieces.maps[number] : id)
            let digest = hasher.finalize()
            if isFull, walk.wholePieces.contains(digest) { continue }
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
                        problem(run, "a run marked unused that the map marks as used")
                    }
                }
                if isFull, isWhole { walk.wholePieces.insert(digest) }
            } catch {
                walk.unreadablePieces.insert(BlobKey(id, .list))
                if case .damaged(let name, let what, let offset, _, _) = error {
                    problem(span, "the list of chunks: \(what) (\(name), byte \(offset))")
                } else {
                    problem(span, "the list of chunks: \(error)")
                }
            }
        }
    }
}
