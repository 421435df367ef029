// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore

/// The contents that a capture need not store: those in the indexes when it began, and those it stored itself.
/// Thread-safe.
final class WriterIndex: Sendable {
    private struct Contents {
        var indexes: IndexSet
        /// For each file of `indexes`, whether the contents of each of its packs may be referenced.
        var isUsable: [[Bool]]
        /// The contents stored since the last index was written.
        var fresh: [BlobKey: BlobLocation] = [:]
    }
    private let contents: Monitor<Contents>

    init(_ repository: Repository) throws(ImageError) {
        // Marks are read first: a pack marked later existed, unmarked, when the capture began.
        let marked = try repository.markedPacks()
        let indexes = try repository.indexSet()
        // A missing, cut-off or foreign pack provides nothing: its chunks are stored again, which repairs the
        // repository.
        let present = Set(
            try repository.store.packNames().filter { name in
                guard !marked.contains(name), let pack = try? PackFile(name, repository.store, repository.secrets)
                else { return false }
                return (try? pack.checkEnd()) != nil
            })
        let isUsable = indexes.files.map { file in file.packs.map { present.contains($0) } }
        contents = Monitor(Contents(indexes: indexes, isUsable: isUsable))
    }

    /// The place of a content, if stored. An unreadable page of an index is ignored: the contents it lists are stored
    /// again.
    func location(_ key: BlobKey) -> BlobLocation? {
        let (fresh, indexes, isUsable) = contents.update { ($0.fresh[key], $0.indexes, $0.isUsable) }
        if let fresh { return fresh }
        for (file, usable) in zip(indexes.files, isUsable) {
            guard let hits = try? file.hits(key) else { continue }
            if let hit = hits.first(where: { usable[$0.packNumber] }) { return hit.entry.location }
        }
        return nil
    }

    func add(_ key: BlobKey, _ location: BlobLocation) { contents.update { $0.fresh[key] = location } }

    var freshCount: Int { contents.update { $0.fresh.count } }

    /// The entries that no index lists yet, sorted.
    func freshEntries() -> [IndexEntry] {
        contents.update { $0.fresh.map { IndexEntry(key: $0.key, location: $0.value) } }
            .sorted { $0.key < $1.key }
    }

    /// Adds a written index: it has all fresh entries, or all entries of the files it replaces.
    func replace(_ old: Set<StoreName>, by file: IndexFile, clearsFresh: Bool) {
        contents.update { contents in
            var files: [IndexFile] = []
            var isUsable: [[Bool]] = []
            for (known, usable) in zip(contents.indexes.files, contents.isUsable) where !old.contains(known.name) {
                files.append(known)
                isUsable.append(usable)
            }
            files.append(file)
            isUsable.append([Bool](repeating: true, count: file.packs.count))
            contents.indexes = IndexSet(files: files, damaged: contents.indexes.damaged)
            contents.isUsable = isUsable
            if clearsFresh { contents.fresh = [:] }
        }
    }
}
