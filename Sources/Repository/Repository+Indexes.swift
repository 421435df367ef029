// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore

extension Repository {
    /// Up to this many index files are not merged.
    static let usualIndexCount = 8

    /// Merges index files into one, and removes them.
    func merge(_ files: [IndexFile], mayPublish: () throws -> Void = {}) throws -> IndexFile {
        let writer = try IndexWriter(
            store, secrets, expectedEntryCount: files.reduce(0) { $0 + $1.entryCount })
        var cursor = try IndexSet.MergedCursor(files)
        while let hit = try cursor.next() { try writer.add(hit.hit.entry) }
        try mayPublish()
        _ = try writer.finish()
        let merged = try IndexFile(writer.name, store, secrets)
        try removeIndexes(files.map(\.name))
        return merged
    }

    /// Removes index files. A missing file is no error.
    func removeIndexes(_ names: [StoreName]) throws(ImageError) {
        for name in names { try store.remove(.index(name)) }
        if !names.isEmpty { try store.flush(.index) }
    }

    /// If there are more than eight index files, merges the small ones. Requires the maintenance lock.
    /// - Returns: the number of merged files; 0 if none.
    @discardableResult
    package func mergeSmallIndexes(mayPublish: () throws -> Void = {}) throws(ImageError) -> Int {
        let indexes = try indexSet()
        guard indexes.files.count > Self.usualIndexCount else { return 0 }
        // Large indexes are kept, so that a nightly capture does not rewrite all of them.
        let sorted = indexes.files.sorted { $0.entryCount > $1.entryCount }
        var small: [IndexFile] = []
        for file in sorted.reversed() {
            let sum = small.reduce(0) { $0 + $1.entryCount }
            if sorted.count - small.count < Self.usualIndexCount, file.entryCount > sum { break }
            small.append(file)
        }
        guard small.count > 1 else { return 0 }
        do { _ = try merge(small, mayPublish: mayPublish) } catch {
            throw .about(store.source.name(ofAll: .index), error)
        }
        return small.count
    }
}
