// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import ObjectStore

/// The contents that snapshots need: one bit per index entry rather than a set of ids, as there can be many millions.
///
/// Of several places of one content, one is chosen: first by whether its pack exists and is whole, then by whether the
/// pack is unmarked, then by the pack's name, so that every prune makes the same choice. If no place is whole, all of
/// them count as needed.
final class PruneReferences {
    let indexes: IndexSet
    private let repository: Repository
    private let blobs: BlobSource
    /// For each file, one bit per entry.
    private var bits: [[UInt64]]
    /// For each file, the state of each of its packs.
    private let standing: [[Standing]]

    /// The state of a pack.
    private struct Standing {
        /// 0: missing; 1: marked; 2: present and unmarked.
        var rank: UInt8 = 0
        /// Whether its head and end are valid.
        var isWhole = false
        var byteCount: UInt64 = 0

        /// The rank of a place in it: a cut-off pack may lack the bytes, so any place in a whole pack ranks higher.
        func rank(of location: BlobLocation) -> UInt8 {
            guard rank > 0 else { return 0 }
            let isThere = isWhole && UInt64(location.offset) + UInt64(location.storedByteCount) <= byteCount
            return isThere ? rank + 2 : rank
        }
    }
    /// The lowest rank of a place in a whole pack.
    private static let wholeRank: UInt8 = 3
    /// Needed contents not looked up yet.
    private var wishes: [Wish] = []
    private static let wishesAtOnce = 1 << 18
    /// Needed contents that no existing pack has.
    private(set) var missing: Set<BlobKey> = []
    /// Upper bound on `missing`.
    private static let largestMissing = 1 << 16
    private(set) var missingCount = 0

    private struct Wish: Comparable {
        var key: BlobKey
        /// The required length of the content; 0 for any.
        var byteCount: UInt32
        static func < (a: Wish, b: Wish) -> Bool {
            a.key != b.key ? a.key < b.key : a.byteCount < b.byteCount
        }
    }

    /// Starts with no needed contents.
    init(
        _ repository: Repository, _ indexes: IndexSet, present: Set<StoreName>, marked: Set<StoreName>
    ) throws(ImageError) {
        self.repository = repository
        self.indexes = indexes
        blobs = try BlobSource(repository)
        bits = indexes.files.map { [UInt64](repeating: 0, count: Int($0.entryCount / 64) + 1) }
        var known: [StoreName: Standing] = [:]
        for name in Set(indexes.files.flatMap(\.packs)) where present.contains(name) {
            // A pack that cannot be read now counts as not whole: then no other place is given up for it.
            let pack = try? PackFile(name, repository.store, repository.secrets)
            known[name] = Standing(
                rank: marked.contains(name) ? 1 : 2, isWhole: pack?.isWhole ?? false, byteCount: pack?.byteCount ?? 0)
        }
        standing = indexes.files.map { file in file.packs.map { known[$0] ?? Standing() } }
    }

    // MARK: Bits

    private func isSet(_ file: Int, _ ordinal: UInt64) -> Bool {
        bits[file][Int(ordinal / 64)] & 1 << (ordinal % 64) != 0
    }

    private func set(_ file: Int, _ ordinal: UInt64) { bits[file][Int(ordinal / 64)] |= 1 << (ordinal % 64) }

    /// Whether the entry was chosen.
    func isNeeded(_ hit: IndexSet.Hit) -> Bool { isSet(hit.file, hit.hit.ordinal) }

    /// Whether this place of a content was chosen.
    func isNeeded(_ entry: IndexEntry) throws(ImageError) -> Bool {
        for hit in try indexes.hits(entry.key) where isNeeded(hit) && hit.hit.entry.location == entry.location {
            return true
        }
        return false
    }

    /// Chooses a place of a content.
    /// - Returns: whether it has a place, and whether that was already chosen.
    private func choose(_ hits: some Sequence<IndexSet.Hit>, byteCount: UInt32) -> (isThere: Bool, wasSet: Bool) {
        var best: IndexSet.Hit?
        var bestRank: UInt8 = 0
        for hit in hits where byteCount == 0 || hit.hit.entry.location.contentByteCount == byteCount {
            let rank = standing[hit.file][hit.hit.packNumber].rank(of: hit.hit.entry.location)
            guard rank > 0 else { continue }
            if let best {
                let (new, old) = (hit.hit.entry.location, best.hit.entry.location)
                let isBetter =
                    rank != bestRank
                    ? rank > bestRank
                    : new.pack != old.pack ? new.pack < old.pack : new.offset < old.offset
                if !isBetter { continue }
            }
            best = hit
            bestRank = rank
        }
        guard let best else { return (false, false) }
        let wasSet = isSet(best.file, best.hit.ordinal)
        set(best.file, best.hit.ordinal)
        if bestRank < Self.wholeRank {
            for hit in hits where standing[hit.file][hit.hit.packNumber].rank > 0 { set(hit.file, hit.hit.ordinal) }
        }
        return (true, wasSet)
    }

    private func noteMissing(_ key: BlobKey) {
        if missing.count < Self.largestMissing, !missing.insert(key).inserted { return }
        missingCount += 1
    }

    // MARK: Snapshots

    /// Adds the contents that a snapshot needs: its pieces, and the contents they list.
    /// - Throws: if a piece cannot be read: its contents are then unknown.
    func add(_ snapshot: Snapshot) throws(ImageError) {
        let chunkByteCount = snapshot.manifest.chunkByteCount
        for (region, pieces) in zip(snapshot.manifest.regions, snapshot.regions) {
            for id in pieces.maps { try need(BlobKey(id, .map), byteCount: 0) }
            for (index, id) in pieces.lists.enumerated() {
                let key = BlobKey(id, .list)
                let (isThere, wasSet) = choose(try indexes.hits(key), byteCount: 0)
                // The contents of an equal piece were added with it.
                if wasSet { continue }
                let list = try list(id, snapshot, region, piece: index)
                if !isThere { noteMissing(key) }
                try add(list, region, piece: index, chunkByteCount)
            }
        }
    }

    /// Adds the contents that a list piece needs.
    func add(_ list: ListPiece, _ region: Manifest.Region, piece: Int, _ chunkByteCount: Int) throws(ImageError) {
        let span = Snapshot.span(ofPiece: piece, region, chunkByteCount)
        var position = span.lowerBound
        for entry in list.entries {
            switch entry {
            case .run(_, let count): position += count * UInt64(chunkByteCount)
            case .data(let id):
                let length = min(UInt64(chunkByteCount), span.upperBound - position)
                position += length
                try need(BlobKey(id, .data), byteCount: UInt32(length))
            }
        }
    }

    /// Reads a piece of a list.
    func list(
        _ id: ContentHash, _ snapshot: Snapshot, _ region: Manifest.Region, piece: Int
    ) throws(ImageError) -> ListPiece {
        let bytes = try blobs.content(id, .list, limit: RepositoryFormat.largestPiece)
        do {
            return try ListPiece(
                bytes, chunkCount: Snapshot.chunkCount(ofPiece: piece, region, snapshot.manifest.chunkByteCount))
        } catch {
            throw .damaged(
                name: repository.name(of: snapshot.info.id), what: "the list of chunks: \(error)", fileOffset: 0,
                disk: Snapshot.span(ofPiece: piece, region, snapshot.manifest.chunkByteCount).shifted(
                    up: region.range.lowerBound), partition: region.partition)
        }
    }

    /// Reads a piece of a map.
    func map(_ id: ContentHash) throws(ImageError) -> [UInt8] {
        try blobs.content(id, .map, limit: RepositoryFormat.largestPiece)
    }

    /// Adds one content.
    func need(_ key: BlobKey, byteCount: UInt32) throws(ImageError) {
        wishes.append(Wish(key: key, byteCount: byteCount))
        if wishes.count >= Self.wishesAtOnce { try settle() }
    }

    /// Looks up the added contents. Must be called at the end.
    func settle() throws(ImageError) {
        guard !wishes.isEmpty else { return }
        wishes.sort()
        var number = 0
        // If there are many, one walk over all pages costs less than one page each. A walk decodes every entry, which
        // makes a page about three times as expensive as one that is only searched.
        var cursor: IndexSet.MergedCursor?
        if UInt64(wishes.count) * UInt64(RepositoryFormat.entriesPerPage / 3) > indexes.entryCount {
            cursor = try indexes.mergedCursor()
        }
        var ahead = try cursor?.next()
        var hits: [IndexSet.Hit] = []
        while number < wishes.count {
            let key = wishes[number].key
            if cursor != nil {
                while let hit = ahead, hit.hit.entry.key < key { ahead = try cursor?.next() }
                hits.removeAll(keepingCapacity: true)
                while let hit = ahead, hit.hit.entry.key == key {
                    hits.append(hit)
                    ahead = try cursor?.next()
                }
            } else {
                hits = try indexes.hits(key)
            }
            var last: UInt32?
            while number < wishes.count, wishes[number].key == key {
                let byteCount = wishes[number].byteCount
                if byteCount != last, !choose(hits, byteCount: byteCount).isThere { noteMissing(key) }
                last = byteCount
                number += 1
            }
        }
        wishes.removeAll(keepingCapacity: true)
    }
}
