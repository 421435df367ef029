// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore

/// What a capture need not store: the indexes as they were when it began, and what it has stored itself. From any
/// thread.
final class WriterIndex: Sendable {
    private struct Contents {
        var indexes: IndexSet
        /// For each file of `indexes`, for each pack of it, whether what it holds may be referred to.
        var isUsable: [[Bool]]
        /// What was stored since the last index was written.
        var fresh: [BlobKey: BlobLocation] = [:]
    }
    private let contents: Monitor<Contents>

    init(_ repository: Repository) throws(ImageError) {
        // Marks first: a pack that is marked later was there, and unmarked, when the capture began.
        let marked = try repository.markedPacks()
        let indexes = try repository.indexSet()
        // A pack that is gone, cut off or another's has nothing: its chunks are stored anew, which heals the repository.
        let present = Set(
            try repository.store.packNames().filter { name in
                guard !marked.contains(name), let pack = try? PackFile(name, repository.store, repository.secrets)
                else { return false }
                return (try? pack.checkEnd()) != nil
            })
        let isUsable = indexes.files.map { file in file.packs.map { present.contains($0) } }
        contents = Monitor(Contents(indexes: indexes, isUsable: isUsable))
    }

    /// Where a content is stored, if it is. A page of an index that cannot be read says nothing: what it lists is stored
    /// anew.
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

    /// What no index has yet, sorted.
    func freshEntries() -> [IndexEntry] {
        contents.update { $0.fresh.map { IndexEntry(key: $0.key, location: $0.value) } }
            .sorted { $0.key < $1.key }
    }

    /// An index was written: it has all that was fresh, or all that the files that it replaces had.
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
