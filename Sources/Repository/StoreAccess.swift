// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore
import SystemPackage

/// A repository's access to its store, with `ImageError`s.
struct StoreAccess: Sendable {
    /// The store.
    let source: any ObjectSource
    private let writable: (any ObjectSink)?
    private let ofAll: (any PrunableStore)?
    /// Ends the wait for a lock.
    private let cancellation: Cancellation

    /// A store that can only be read.
    init(reading store: any ObjectSource, _ cancellation: Cancellation = Cancellation()) {
        (source, writable, ofAll) = (store, nil, nil)
        self.cancellation = cancellation
    }

    /// A store that can only be added to.
    init(adding store: any ObjectSink, _ cancellation: Cancellation = Cancellation()) {
        (source, writable, ofAll) = (store, store, nil)
        self.cancellation = cancellation
    }

    /// A store with which everything can be done.
    init(_ store: any PrunableStore, _ cancellation: Cancellation = Cancellation()) {
        (source, writable, ofAll) = (store, store, store)
        self.cancellation = cancellation
    }

    /// The name in messages.
    var name: String { source.name }
    /// The name of an object in messages.
    func name(of id: ObjectID) -> String { source.name(of: id) }

    /// The store, to add to it.
    func sink() throws(ImageError) -> any ObjectSink {
        guard let writable else { throw .refused("\(name) can only be read") }
        return writable
    }

    /// The store, to remove from it.
    func prunable() throws(ImageError) -> any PrunableStore {
        guard let ofAll, !ofAll.traits.isAppendOnly else {
            throw .refused("nothing can be removed from \(name)\(writable == nil ? ": it can only be read" : "")")
        }
        return ofAll
    }

    /// Takes a lock for this process. In a read-only store, a reader gets `none`.
    func lock(
        _ operation: RepositoryOperation, waiting: Double = 0, note: (String) -> Void
    ) throws(ImageError) -> RepositoryLock {
        if writable == nil, operation == .restore || operation == .verify { return .none }
        return try RepositoryLock.acquire(
            in: try sink(), operation: operation, waiting: waiting, cancellation: cancellation, note: note)
    }

    // MARK: Reading

    /// The names of all objects of a kind. A failed listing is an error: it must never pass for an empty one.
    func names(_ kind: ObjectKind) throws(ImageError) -> [String] {
        do { return try source.list(kind) } catch { throw .system(error) }
    }

    func indexNames() throws(ImageError) -> [StoreName] { try names(.index).compactMap { StoreName($0) } }

    /// All existing packs, sorted.
    func packNames() throws(ImageError) -> [StoreName] { try names(.pack).compactMap { StoreName($0) }.sorted() }

    func status(_ id: ObjectID) throws(ImageError) -> ObjectStatus? {
        do { return try source.status(id) } catch { throw .system(error) }
    }

    func contains(_ id: ObjectID) throws(ImageError) -> Bool { try status(id) != nil }

    func open(_ id: ObjectID) throws(ImageError) -> StoreFile {
        do { return StoreFile(source.name(of: id), try source.open(id)) } catch { throw .system(error) }
    }

    // MARK: Writing

    func begin(_ id: ObjectID) throws(ImageError) -> StoreOutput {
        let sink = try sink()
        do { return StoreOutput(sink.name(of: id), try sink.begin(id)) } catch { throw .system(error) }
    }

    func put(_ id: ObjectID, _ bytes: [UInt8], _ manner: PutManner) throws(ImageError) {
        let sink = try sink()
        do { try sink.put(id, bytes, manner) } catch { throw .system(error) }
    }

    /// Removes an object; a missing one is no error.
    func remove(_ id: ObjectID) throws(ImageError) {
        let sink = try sink()
        do { try sink.removeIfThere(id) } catch { throw .system(error) }
    }

    func flush(_ kind: ObjectKind, _ names: [String] = []) throws(ImageError) {
        let sink = try sink()
        do { try sink.flush(kind, names) } catch { throw .system(error) }
    }
}

extension ObjectID {
    static let configuration = ObjectID(.configuration)
    static let forgetting = ObjectID(.forgetting)
    static func pack(_ name: StoreName) -> ObjectID { ObjectID(.pack, name.description) }
    static func index(_ name: StoreName) -> ObjectID { ObjectID(.index, name.description) }
    static func snapshot(_ id: ContentHash) -> ObjectID { ObjectID(.snapshot, id.description) }
    static func publication(_ id: ContentHash) -> ObjectID { ObjectID(.publication, id.description) }
    static func retirement(_ id: ContentHash) -> ObjectID { ObjectID(.retirement, id.description) }
    static func mark(_ pack: StoreName) -> ObjectID { ObjectID(.mark, pack.description) }
    static func batch(_ id: GUID) -> ObjectID { ObjectID(.batch, id.description) }
    static func lock(_ id: GUID) -> ObjectID { ObjectID(.lock, id.description) }
    static func key(_ id: String) -> ObjectID { ObjectID(.key, id) }
}

extension ImageError {
    /// Whether an expected object is missing.
    var isMissingFile: Bool {
        if case .system(let error) = self { return error.errno == .noSuchFileOrDirectory }
        return false
    }

    /// Whether the store is full.
    var isFull: Bool {
        if case .system(let error) = self { return [.noSpace, .diskQuotaExceeded].contains(error.errno) }
        return false
    }

    /// Damage of an object of a repository, without a known disk range.
    static func damagedFile(_ name: String, _ what: String, at offset: UInt64 = 0) -> ImageError {
        .damaged(name: name, what: what, fileOffset: offset, disk: nil, partition: nil)
    }

    /// Converts an error of a lower module to an error about the named object.
    static func about(_ name: String, _ error: any Error, at offset: UInt64 = 0) -> ImageError {
        switch error {
        case let error as ImageError: error
        case let error as SystemCallError: .system(error)
        default: .damagedFile(name, "\(error)", at: offset)
        }
    }
}
