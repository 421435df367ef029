// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import Synchronization
import SystemPackage

/// A store that caches a remote one: indexes and snapshots, which never change, are read from a local folder once
/// fetched. Readers check cached bytes like any other bytes of a repository.
package final class CachingStore: WrappedStore {
    package let inner: any PrunableStore
    private let cache: LocalStore
    private let limit: UInt64
    private let state = Mutex<[ObjectID]>([])

    /// - Parameters:
    ///   - folder: the cache folder, for one repository only.
    ///   - limit: upper bound on the cached bytes; the least recently used objects are removed.
    package init(_ inner: any PrunableStore, in folder: FilePath, limit: UInt64) throws(SystemCallError) {
        self.inner = inner
        self.limit = limit
        cache = LocalStore(folder, cancellation: Cancellation())
        for kind in Self.kinds { try Files.makeFolders(cache.layout.folder(kind)) }
        try Files.makeFolders(cache.layout.temporary)
        _ = cache.removeLeftovers()
        var known: [(id: ObjectID, modified: Int64)] = []
        for kind in Self.kinds {
            for name in try cache.list(kind) {
                let id = ObjectID(kind, name)
                if let status = try cache.status(id) { known.append((id, status.modified)) }
            }
        }
        known.sort { $0.modified < $1.modified }
        state.withLock { $0 = known.map(\.id) }
    }

    private static let kinds: [ObjectKind] = [.index, .snapshot]

    package func open(_ id: ObjectID) throws(SystemCallError) -> any ObjectReader {
        guard Self.kinds.contains(id.kind) else { return try inner.open(id) }
        // An object removed from the inner store must not be served from the cache.
        guard let status = try inner.status(id) else {
            try? cache.remove(id)
            throw SystemCallError("open", name(of: id), .noSuchFileOrDirectory)
        }
        if let held = try? cache.open(id), held.byteCount == status.byteCount {
            state.withLock { order in
                order.removeAll { $0 == id }
                order.append(id)
            }
            return held
        }
        let reader = try inner.open(id)
        guard reader.byteCount <= limit, keep(id, reader) else { return reader }
        return (try? cache.open(id)) ?? reader
    }

    /// Copies an object to the cache and makes room for it. A cache that cannot be written is not used.
    private func keep(_ id: ObjectID, _ reader: any ObjectReader) -> Bool {
        guard let writer = try? cache.begin(id) else { return false }
        var offset: UInt64 = 0
        let size = Int(min(reader.byteCount, 1 << 20))
        let isWhole = unsafe withUnsafeTemporaryAllocation(byteCount: max(1, size), alignment: 16) { buffer in
            while offset < reader.byteCount {
                let count = Int(min(UInt64(size), reader.byteCount - offset))
                let part = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
                guard unsafe (try? reader.read(into: part, at: offset)) == count,
                    unsafe (try? writer.write(UnsafeRawBufferPointer(part))) != nil
                else { return false }
                offset += UInt64(count)
            }
            return true
        }
        guard isWhole, (try? writer.commit()) != nil else {
            writer.discard()
            return false
        }
        state.withLock { order in
            order.removeAll { $0 == id }
            order.append(id)
            var sum: UInt64 = 0
            var firstKept = order.count
            while firstKept > 0 {
                let size = ((try? cache.status(order[firstKept - 1])) ?? nil)?.byteCount ?? 0
                guard firstKept == order.count || sum + size <= limit else { break }
                sum += size
                firstKept -= 1
            }
            for old in order[..<firstKept] { try? cache.remove(old) }
            order.removeFirst(firstKept)
        }
        return true
    }

    package func remove(_ id: ObjectID) throws(SystemCallError) {
        if Self.kinds.contains(id.kind) { try? cache.remove(id) }
        try inner.remove(id)
    }
    package func retire(_ id: ObjectID, as record: ObjectID) throws(SystemCallError) {
        if Self.kinds.contains(id.kind) { try? cache.remove(id) }
        try inner.retire(id, as: record)
    }
}
