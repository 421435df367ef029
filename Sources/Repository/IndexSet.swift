// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem

/// The index files of a repository at one moment. They remain readable after others replace them.
struct IndexSet: Sendable {
    /// The files that could be opened.
    let files: [IndexFile]
    /// The files that could not be opened.
    let damaged: [Damaged]

    struct Damaged: Sendable {
        var name: StoreName
        var error: ImageError
    }

    static let none = IndexSet(files: [], damaged: [])

    init(files: [IndexFile], damaged: [Damaged]) {
        self.files = files
        self.damaged = damaged
    }

    /// Opens all index files; files in `known` are reused.
    static func open(
        _ store: StoreAccess, _ secrets: RepositorySecrets, known: IndexSet = .none
    ) throws(ImageError) -> IndexSet {
        var held = Dictionary(known.files.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        listing: for _ in 0..<100 {
            var files: [IndexFile] = []
            var damaged: [Damaged] = []
            for name in try store.indexNames() {
                if let file = held[name] {
                    files.append(file)
                    continue
                }
                do {
                    let file = try IndexFile(name, store, secrets)
                    held[name] = file
                    files.append(file)
                } catch {
                    // Another process merged it since the listing: the new index has its entries.
                    if error.isMissingFile { continue listing }
                    if case .unsupported = error { throw error }
                    damaged.append(Damaged(name: name, error: error))
                }
            }
            return IndexSet(files: files, damaged: damaged)
        }
        throw .busy("\(store.name): its indexes change faster than they can be read; try again")
    }

    /// A copy with one more file.
    func adding(_ file: IndexFile) -> IndexSet { IndexSet(files: files + [file], damaged: damaged) }

    /// A copy without the files of these names.
    func removing(_ names: Set<StoreName>) -> IndexSet {
        IndexSet(files: files.filter { !names.contains($0.name) }, damaged: damaged)
    }

    /// A hit, and the index in `files` of the file that has it.
    struct Hit: Sendable {
        var file: Int
        var hit: IndexFile.Hit
    }

    /// All entries of a key in all files.
    func hits(_ id: ContentHash, _ kind: BlobKind) throws(ImageError) -> [Hit] { try hits(BlobKey(id, kind)) }

    func hits(_ key: BlobKey) throws(ImageError) -> [Hit] {
        var result: [Hit] = []
        for (number, file) in files.enumerated() {
            for hit in try file.hits(key) { result.append(Hit(file: number, hit: hit)) }
        }
        return result
    }

    /// The places of a content, from all readable pages.
    /// - Returns: the places, and the first damage found, if any.
    func locations(_ key: BlobKey) -> (found: [BlobLocation], damage: ImageError?) {
        var found: [BlobLocation] = []
        var damage = damaged.first?.error
        for file in files {
            do { found += try file.hits(key).map(\.entry.location) } catch { damage = damage ?? error }
        }
        return (found, damage)
    }

    /// The number of entries in all files.
    var entryCount: UInt64 { files.reduce(0) { $0 + $1.entryCount } }

    /// A walk over all entries of all files in order of keys; holds one page per file. An entry in several files is
    /// returned once for each.
    struct MergedCursor {
        private var cursors: [IndexFile.Cursor]
        /// A binary heap: the smallest entry first.
        private var heap: [Hit] = []

        init(_ files: [IndexFile]) throws(ImageError) {
            cursors = files.map { IndexFile.Cursor($0) }
            for number in cursors.indices {
                if let hit = try cursors[number].next() { push(Hit(file: number, hit: hit)) }
            }
        }

        /// The next entry; `nil` at the end.
        mutating func next() throws(ImageError) -> Hit? {
            guard let smallest = heap.first else { return nil }
            if let hit = try cursors[smallest.file].next() {
                heap[0] = Hit(file: smallest.file, hit: hit)
            } else {
                let last = heap.removeLast()
                if heap.isEmpty { return smallest }
                heap[0] = last
            }
            sink()
            return smallest
        }

        private func isBefore(_ a: Hit, _ b: Hit) -> Bool {
            if a.hit.entry.key != b.hit.entry.key { return a.hit.entry.key < b.hit.entry.key }
            let (left, right) = (a.hit.entry.location, b.hit.entry.location)
            // Equal entries of several files are adjacent, so that the writer of a merged index drops them.
            return left.pack != right.pack ? left.pack < right.pack : left.offset < right.offset
        }

        private mutating func push(_ hit: Hit) {
            heap.append(hit)
            var child = heap.count - 1
            while child > 0, isBefore(heap[child], heap[(child - 1) / 2]) {
                heap.swapAt(child, (child - 1) / 2)
                child = (child - 1) / 2
            }
        }

        private mutating func sink() {
            var parent = 0
            while true {
                var least = parent
                for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count {
                    if isBefore(heap[child], heap[least]) { least = child }
                }
                if least == parent { return }
                heap.swapAt(parent, least)
                parent = least
            }
        }
    }

    /// A walk over all entries in order of keys.
    func mergedCursor() throws(ImageError) -> MergedCursor { try MergedCursor(files) }
}
