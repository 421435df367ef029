// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import ObjectStore

/// A store of many snapshots, which holds each content once; RepositoryFormat.md is the specification.
package final class Repository: Sendable {
    /// Its name in messages: a path or an address.
    package var name: String { store.name }
    /// The contents of `repository.json`.
    package let configuration: RepositoryConfiguration
    /// The keys; `nil` if nothing is encrypted.
    package let keys: MasterKeys?
    let store: StoreAccess
    let secrets: RepositorySecrets
    /// The most recently read indexes.
    private let indexCache = Monitor(IndexSet.none)
    /// Receives warnings about read data, from any thread.
    private let warn: @Sendable (String) -> Void
    /// The damaged copies already reported.
    private let damagedCopies = Monitor(Set<String>())

    private init(
        _ store: StoreAccess, _ configuration: RepositoryConfiguration, _ keys: MasterKeys?,
        warn: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        self.warn = warn
        self.store = store
        self.configuration = configuration
        self.keys = keys
        secrets = RepositorySecrets(uuid: configuration.uuid, keys: keys)
    }

    /// Makes a repository in a store that is empty or not there yet.
    /// - Parameters:
    ///   - keys: the keys of an encrypted repository, else `nil`.
    ///   - prepare: called before the store becomes a repository, to write the wrapped keys durably.
    package static func create(
        in store: any PrunableStore, chunkByteCount: Int, keys: MasterKeys?, prepare: () throws -> Void = {}
    ) throws(ImageError) -> Repository {
        guard Manifest.isValidChunkByteCount(chunkByteCount) else {
            throw .unsupported(
                name: store.name, what: "chunks of \(chunkByteCount) bytes (a power of two from 64 KiB to 64 MiB)")
        }
        do {
            try store.prepare()
            try prepare()
            let configuration = RepositoryConfiguration(chunkByteCount: chunkByteCount, isEncrypted: keys != nil)
            // Written last: it makes the store a repository.
            try store.put(.configuration, try configuration.fileBytes(), [.durable, .isNew])
            return Repository(StoreAccess(store), try .read(in: StoreAccess(store)), keys)
        } catch { throw .about(store.name, error) }
    }

    /// The configuration of a repository, readable without a key.
    package static func configuration(in store: any ObjectSource) throws(ImageError) -> RepositoryConfiguration {
        try .read(in: StoreAccess(reading: store))
    }

    /// Opens a repository; nothing is written.
    /// - Parameters:
    ///   - keys: the keys of an encrypted repository, from `KeyStore`.
    ///   - cancellation: ends the wait for a lock.
    ///   - warn: receives, on any thread, sentences on damage for which an intact copy exists.
    package static func open(
        _ store: any PrunableStore, keys: MasterKeys?, cancellation: Cancellation = Cancellation(),
        warn: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(ImageError) -> Repository { try open(StoreAccess(store, cancellation), keys, warn) }

    /// Opens a repository that can only be read.
    package static func open(
        reading store: any ObjectSource, keys: MasterKeys?, warn: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(ImageError) -> Repository { try open(StoreAccess(reading: store), keys, warn) }

    private static func open(
        _ store: StoreAccess, _ keys: MasterKeys?, _ warn: @escaping @Sendable (String) -> Void
    ) throws(ImageError) -> Repository {
        let configuration = try RepositoryConfiguration.read(in: store)
        guard configuration.isEncrypted == (keys != nil) else {
            throw .key(
                configuration.isEncrypted
                    ? "\(store.name) is encrypted: it needs a password" : "\(store.name) has no keys")
        }
        return Repository(store, configuration, keys, warn: warn)
    }

    /// Takes a lock for this process; see `RepositoryLock`.
    package func lock(
        _ operation: RepositoryOperation, waiting: Double = 0, note: (String) -> Void = { _ in }
    ) throws(ImageError) -> RepositoryLock { try store.lock(operation, waiting: waiting, note: note) }

    /// Upper bound on the damaged copies reported one by one.
    private static let largestWarningCount = 20

    /// Warns, once for each place, that a copy of a content could not be used and another one was.
    func noteDamagedCopy(_ damaged: BlobSource.Found, insteadUsing whole: BlobSource.Found) {
        let place = "\(damaged.pack.path), byte \(damaged.location.offset)"
        let count = damagedCopies.update { $0.insert(place).inserted ? $0.count : nil }
        guard let count, count <= Self.largestWarningCount else { return }
        let isLast = count == Self.largestWarningCount
        warn(
            "a damaged copy was skipped (\(place)); the one in \(whole.pack.name) is whole. "
                + "reforge verify \(name) --repair sets damaged copies aside"
                + (isLast ? ". More of them are not listed" : ""))
    }

    /// The coding of contents of a kind: naming, compression, seal.
    package func coding(level: Int, kind: BlobKind) -> ChunkCoding { secrets.coding(level: level, kind: kind) }

    /// The name of a snapshot in messages.
    package func name(of id: ContentHash) -> String { "\(name)@\(id.description.prefix(8))" }

    /// The ids of all snapshots, from the names of their files.
    package func snapshotIDs() throws(ImageError) -> [ContentHash] {
        try store.names(.snapshot).compactMap { name in
            ContentHash(hexadecimal: name).flatMap { $0.description == name ? $0 : nil }
        }
    }

    /// Reads one snapshot, and checks it against its name.
    package func snapshot(_ id: ContentHash) throws(ImageError) -> Snapshot {
        let file: StoreFile
        do { file = try store.open(.snapshot(id)) } catch {
            if error.isMissingFile { throw .missing("there is no snapshot \(name(of: id))") }
            throw error
        }
        guard file.byteCount <= UInt64(RepositoryFormat.largestSnapshot) else {
            throw .damagedFile(file.name, "a snapshot of \(file.byteCount) bytes")
        }
        return try SnapshotFile.snapshot(
            try file.bytes(at: 0, count: Int(file.byteCount)), id: id, chunkByteCount: configuration.chunkByteCount,
            secrets, path: file.name)
    }

    /// All snapshots, oldest first, and the unreadable ones. For large repositories, `snapshotInfos` needs less memory.
    /// An unreadable folder counts as damaged.
    package func snapshots() -> (whole: [Snapshot], damaged: [(name: String, error: ImageError)]) {
        let (all, damaged) = eachSnapshot { $0 }
        return (all.sorted { SnapshotInfo.isOlder($0.info, than: $1.info) }, damaged)
    }

    /// The list entries of all snapshots, oldest first, and the unreadable ones. Holds one snapshot at a time.
    package func snapshotInfos() -> (whole: [SnapshotInfo], damaged: [(name: String, error: ImageError)]) {
        let (all, damaged) = eachSnapshot(\.info)
        return (all.sorted(by: SnapshotInfo.isOlder), damaged)
    }

    private func eachSnapshot<Value>(
        _ value: (Snapshot) -> Value
    ) -> ([Value], [(name: String, error: ImageError)]) {
        var whole: [Value] = []
        var damaged: [(name: String, error: ImageError)] = []
        let ids: [ContentHash]
        do { ids = try snapshotIDs() } catch { return ([], [(store.source.name(ofAll: .snapshot), error)]) }
        for id in ids {
            do { whole.append(value(try snapshot(id))) } catch {
                // Forgotten since the listing.
                if case .missing = error { continue }
                damaged.append((store.name(of: .snapshot(id)), error))
            }
        }
        return (whole, damaged)
    }

    /// The current index files; already opened files are not read again.
    func indexSet() throws(ImageError) -> IndexSet {
        let known = indexCache.update { $0 }
        let fresh = try IndexSet.open(store, secrets, known: known)
        indexCache.update { $0 = fresh }
        return fresh
    }

    /// A reader of a snapshot. Several may run concurrently, each on its own thread.
    package func reader(_ snapshot: Snapshot) throws(ImageError) -> SnapshotReader {
        try SnapshotReader(self, snapshot)
    }

    /// Finds the records of a snapshot by their place on the disk.
    package func index(_ snapshot: Snapshot) throws(ImageError) -> SnapshotIndex {
        try SnapshotIndex(self, snapshot)
    }

    /// Begins a snapshot.
    /// - Parameters:
    ///   - header: the header of the capture; its chunk length must be the repository's.
    ///   - host: the captured machine.
    ///   - disk: name of the captured disk: its serial number, if it has one.
    ///   - tags: the tags of the snapshot.
    ///   - level: the compression level.
    ///   - mayPublish: called right before anything is published in the repository; throws if the writer's lock is
    ///     gone.
    package func writer(
        header: ImageHeader, host: String, disk: String, tags: [String], level: Int,
        mayPublish: @escaping @Sendable () throws -> Void = {}
    ) throws(ImageError) -> SnapshotWriter {
        try SnapshotWriter(
            self, header: header, host: host, disk: disk, tags: tags, level: level, mayPublish: mayPublish)
    }

    /// The packs marked for removal: a new capture stores again what it needs of them.
    func markedPacks() throws(ImageError) -> Set<StoreName> {
        Set(try store.names(.mark).compactMap { StoreName($0) })
    }
}
