// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// A folder that holds many snapshots and every content once; RepositoryFormat.md is the specification.
package final class Repository: Sendable {
    /// The folder.
    package let path: FilePath
    /// What `repository.json` says.
    package let configuration: RepositoryConfiguration
    /// The keys; `nil` where nothing is encrypted.
    package let keys: MasterKeys?
    let layout: RepositoryLayout
    let secrets: RepositorySecrets
    /// The indexes as they were read last.
    private let indexCache = Monitor(IndexSet.none)
    /// Is told, from any thread, what a person should know of what is read.
    private let warn: @Sendable (String) -> Void
    /// The damaged copies that were told of.
    private let damagedCopies = Monitor(Set<String>())

    private init(
        _ path: FilePath, _ configuration: RepositoryConfiguration, _ keys: MasterKeys?,
        warn: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        self.warn = warn
        self.path = path
        self.configuration = configuration
        self.keys = keys
        layout = RepositoryLayout(path)
        secrets = RepositorySecrets(uuid: configuration.uuid, keys: keys)
    }

    /// Whether a folder is a repository, of whatever version.
    package static func isRepository(_ path: FilePath) -> Bool {
        Files.exists(RepositoryLayout(path).configuration)
    }

    /// Makes a repository in a folder that is empty or not there yet.
    /// - Parameters:
    ///   - keys: the keys of an encrypted repository, else `nil`.
    ///   - prepare: is given the folder before it becomes a repository: to write the wrapped keys, durably.
    package static func create(
        at path: FilePath, chunkByteCount: Int, keys: MasterKeys?, prepare: (FilePath) throws -> Void = { _ in }
    ) throws(ImageError) -> Repository {
        guard Manifest.isValidChunkByteCount(chunkByteCount) else {
            throw .unsupported(
                name: path.string, what: "chunks of \(chunkByteCount) bytes (a power of two from 64 KiB to 64 MiB)")
        }
        let layout = RepositoryLayout(path)
        do {
            if Files.exists(path) {
                guard try RepositoryLayout.names(in: path).isEmpty else {
                    throw SystemCallError("create a repository in", path.string, .directoryNotEmpty)
                }
            } else {
                try Files.makeFolders(path)
                try Files.syncFolder(of: path)
            }
            for name in RepositoryLayout.folderNames { try Files.makeFolders(path.appending(name)) }
            try Files.syncFolder(of: layout.configuration)
            try prepare(path)
            let configuration = RepositoryConfiguration(chunkByteCount: chunkByteCount, isEncrypted: keys != nil)
            // Last: it makes the folder a repository.
            try Files.write(try configuration.fileBytes(), to: layout.configuration)
            return Repository(path, try .read(in: path), keys)
        } catch { throw .about(path, error) }
    }

    /// What a repository says of itself, without any key.
    package static func configuration(at path: FilePath) throws(ImageError) -> RepositoryConfiguration {
        try .read(in: path)
    }

    /// Opens a repository; nothing is written.
    /// - Parameters:
    ///   - keys: what `KeyStore` unwrapped where it is encrypted.
    ///   - warn: is told, from any thread, of damage that another copy made up for.
    package static func open(
        at path: FilePath, keys: MasterKeys?, warn: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(ImageError) -> Repository {
        let configuration = try RepositoryConfiguration.read(in: path)
        guard configuration.isEncrypted == (keys != nil) else {
            throw .key(configuration.isEncrypted ? "\(path) is encrypted: it needs a password" : "\(path) has no keys")
        }
        return Repository(path, configuration, keys, warn: warn)
    }

    /// The most damaged copies that are told of one by one.
    private static let largestWarningCount = 20

    /// Warns, once for each place, that a copy of a content could not be used and another one was.
    func noteDamagedCopy(_ damaged: BlobSource.Found, insteadUsing whole: BlobSource.Found) {
        let place = "\(damaged.pack.path), byte \(damaged.location.offset)"
        let count = damagedCopies.update { $0.insert(place).inserted ? $0.count : nil }
        guard let count, count <= Self.largestWarningCount else { return }
        let isLast = count == Self.largestWarningCount
        warn(
            "a damaged copy was passed over (\(place)); the one in \(whole.pack.name) is whole. "
                + "reforge verify \(path) --repair sets damaged copies aside"
                + (isLast ? ". More of them are not listed" : ""))
    }

    /// How contents of a kind are named, compressed and sealed.
    package func coding(level: Int, kind: BlobKind) -> ChunkCoding { secrets.coding(level: level, kind: kind) }

    /// How messages call a snapshot.
    package func name(of id: ContentHash) -> String { "\(path)@\(id.description.prefix(8))" }

    /// The ids of all snapshots, as the names of their files say.
    package func snapshotIDs() throws(ImageError) -> [ContentHash] {
        try RepositoryLayout.names(in: layout.snapshots).compactMap { name in
            ContentHash(hexadecimal: name).flatMap { $0.description == name ? $0 : nil }
        }
    }

    /// Reads one snapshot, and checks it against its name.
    package func snapshot(_ id: ContentHash) throws(ImageError) -> Snapshot {
        let path = layout.snapshot(id)
        let file: StoreFile
        do { file = try StoreFile(path) } catch {
            if error.isMissingFile { throw .missing("there is no snapshot \(name(of: id))") }
            throw error
        }
        guard file.byteCount <= UInt64(RepositoryFormat.largestSnapshot) else {
            throw .damagedFile(path, "a snapshot of \(file.byteCount) bytes")
        }
        return try SnapshotFile.snapshot(
            try file.bytes(at: 0, count: Int(file.byteCount)), id: id, chunkByteCount: configuration.chunkByteCount,
            secrets, path: path.string)
    }

    /// All snapshots, oldest first, and those that cannot be read. Large repositories: `snapshotInfos` holds less.
    /// A folder that cannot be read counts as damaged.
    package func snapshots() -> (whole: [Snapshot], damaged: [(name: String, error: ImageError)]) {
        let (all, damaged) = eachSnapshot { $0 }
        return (all.sorted { SnapshotInfo.isOlder($0.info, than: $1.info) }, damaged)
    }

    /// What lists show of all snapshots, oldest first, and those that cannot be read. Holds one snapshot at a time.
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
        do { ids = try snapshotIDs() } catch { return ([], [(layout.snapshots.string, error)]) }
        for id in ids {
            do { whole.append(value(try snapshot(id))) } catch {
                // Forgotten since the listing.
                if case .missing = error { continue }
                damaged.append((layout.snapshot(id).string, error))
            }
        }
        return (whole, damaged)
    }

    /// The index files as they are now; those that were opened before are not read again.
    func indexSet() throws(ImageError) -> IndexSet {
        let known = indexCache.update { $0 }
        let fresh = try IndexSet.open(layout, secrets, known: known)
        indexCache.update { $0 = fresh }
        return fresh
    }

    /// A reader of a snapshot. Several may be at work at once, each on a thread of its own.
    package func reader(_ snapshot: Snapshot) throws(ImageError) -> SnapshotReader {
        try SnapshotReader(self, snapshot)
    }

    /// Begins a snapshot.
    /// - Parameters:
    ///   - header: what is captured; its chunks have the repository's length.
    ///   - host: the captured machine.
    ///   - disk: what names the captured disk: its serial number, where it has one.
    ///   - tags: tags.
    ///   - level: the compression level.
    ///   - mayPublish: is called right before anything appears in the repository, and throws where it must not: because
    ///     the writer's lock is gone.
    package func writer(
        header: ImageHeader, host: String, disk: String, tags: [String], level: Int,
        mayPublish: @escaping @Sendable () throws -> Void = {}
    ) throws(ImageError) -> SnapshotWriter {
        try SnapshotWriter(
            self, header: header, host: host, disk: disk, tags: tags, level: level, mayPublish: mayPublish)
    }

    /// The packs that are to go: what a new capture needs of them it stores anew.
    func markedPacks() throws(ImageError) -> Set<StoreName> {
        Set(try RepositoryLayout.names(in: layout.marks).compactMap { StoreName($0) })
    }
}
