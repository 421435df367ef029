// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

// Errors of a store are `SystemCallError`s: ENOENT if an object is missing, EEXIST if it must not exist, ENOSPC and
// EDQUOT if the store is full, EROFS and EACCES if nothing can be written. A remote store translates its own errors
// into these.

/// The guarantees of a store. Queried, never inferred from its type.
package struct StoreTraits: Equatable, Sendable {
    /// Whether creating an object (`PutManner.isNew`) fails atomically if its name exists: of two concurrent calls, one
    /// fails.
    package var createsAtomically = true
    /// Whether reading a part of an object costs no more than that part.
    package var readsRanges = true
    /// Whether times are set by the store's clock. False if the writing machines set them: such times are not used.
    package var keepsTime = true
    /// Whether existing objects can neither be removed nor replaced, by any process.
    package var isAppendOnly = false
    /// Whether `PrunableStore.retire` is atomic: at no time do both objects exist, or neither.
    package var retiresInOneStep = true

    /// All guarantees, as of a local folder.
    package init() {}
}

/// The status of an object.
package struct ObjectStatus: Equatable, Sendable {
    /// Its length.
    package var byteCount: UInt64
    /// The time of its last put or touch, in seconds since 1970; `StoreTraits.keepsTime` says by which clock.
    package var modified: Int64

    package init(byteCount: UInt64, modified: Int64) {
        self.byteCount = byteCount
        self.modified = modified
    }
}

/// A readable store. Thread-safe.
package protocol ObjectSource: AnyObject, Sendable {
    /// The name in messages: a path or an address.
    var name: String { get }
    /// Its guarantees.
    var traits: StoreTraits { get }
    /// Whether its folder or bucket exists.
    var isThere: Bool { get }

    /// The name of an object in messages: a location the user can find.
    func name(of id: ObjectID) -> String
    /// The name in messages for all objects of a kind.
    func name(ofAll kind: ObjectKind) -> String
    /// The names of all objects of a kind, in any order. A failed listing throws: it must never pass for an empty one.
    func list(_ kind: ObjectKind) throws(SystemCallError) -> [String]
    /// The status of an object; `nil` if it is missing.
    func status(_ id: ObjectID) throws(SystemCallError) -> ObjectStatus?
    /// Opens an object.
    func open(_ id: ObjectID) throws(SystemCallError) -> any ObjectReader
}

/// An open object, readable at any offset and from any thread. If it is removed meanwhile, it remains readable, or
/// reading throws ENOENT; it never returns other bytes.
package protocol ObjectReader: AnyObject, Sendable {
    /// Its length.
    var byteCount: UInt64 { get }
    /// Fills `buffer` from `offset` on.
    /// - Returns: the number of bytes read: fewer only at the end of the object.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(SystemCallError) -> Int
}

/// Options for writing a small object.
package struct PutManner: OptionSet, Sendable {
    package let rawValue: Int
    package init(rawValue: Int) { self.rawValue = rawValue }

    /// The object survives a power cut once the call has returned.
    package static let durable = PutManner(rawValue: 1)
    /// EEXIST if the name exists.
    package static let isNew = PutManner(rawValue: 2)
    /// If the store is full, an empty object suffices.
    package static let mayBeEmpty = PutManner(rawValue: 4)
}

/// A store to which objects can be added.
package protocol ObjectSink: ObjectSource {
    /// Prepares the location for a new repository.
    /// - Throws: ENOTEMPTY if the location is not empty.
    func prepare() throws(SystemCallError)
    /// Begins an object. It is invisible before `commit`.
    func begin(_ id: ObjectID) throws(SystemCallError) -> any ObjectWriter
    /// Writes a small object atomically, replacing one of that name.
    func put(_ id: ObjectID, _ bytes: [UInt8], _ manner: PutManner) throws(SystemCallError)
    /// Writes an existing object again, with the same bytes, so that its time advances. A removed object is not
    /// recreated if the store can detect that.
    /// - Returns: its time.
    func touch(_ id: ObjectID, _ bytes: [UInt8]) throws(SystemCallError) -> Int64
    /// Removes an object. ENOENT if it is missing.
    func remove(_ id: ObjectID) throws(SystemCallError)
    /// Waits until written objects, and added or removed names of their kind, survive a power cut.
    func flush(_ kind: ObjectKind, _ names: [String]) throws(SystemCallError)
    /// The time by the store's clock; `nil` if it has none, or nothing can be written.
    func now() -> Int64?
    /// Removes files left by writers that have ended.
    /// - Returns: the freed bytes.
    func removeLeftovers() -> UInt64
    /// Excludes other lease holders of the kind until released; `nil` if the store cannot do that.
    func lease(_ kind: ObjectKind) throws(SystemCallError) -> (any StoreLease)?
}

/// An exclusive lease of a kind of objects.
package protocol StoreLease: Sendable {
    /// Ends the lease.
    func release()
}

/// An object being written.
package protocol ObjectWriter: AnyObject {
    /// The length so far.
    var byteCount: UInt64 { get }
    /// Appends.
    func write(_ bytes: UnsafeRawBufferPointer) throws(SystemCallError)
    /// Makes the object durable, then visible under its name. Called once, last.
    func commit() throws(SystemCallError)
    /// Removes the unfinished object, as its deinitialization does.
    func discard()
}

/// A store from which objects can be removed.
package protocol PrunableStore: ObjectSink {
    /// Replaces `id` by `record`. If interrupted, at least one of them exists.
    /// - Throws: ENOENT if `id` is missing.
    func retire(_ id: ObjectID, as record: ObjectID) throws(SystemCallError)
    /// The bytes that can still be stored; `nil` if unknown.
    var freeByteCount: UInt64? { get }
}

extension ObjectSource {
    /// All bytes of a small object; the first `limit` of a longer one.
    package func read(_ id: ObjectID, limit: Int) throws(SystemCallError) -> [UInt8] {
        let object = try open(id)
        var bytes = [UInt8](repeating: 0, count: Int(min(object.byteCount, UInt64(max(0, limit)))))
        let outcome = unsafe bytes.withUnsafeMutableBytes { buffer in
            Result { () throws(SystemCallError) in unsafe try object.read(into: buffer, at: 0) }
        }
        let count = try outcome.get()
        return count == bytes.count ? bytes : Array(bytes[..<count])
    }

    /// Whether an object exists.
    package func contains(_ id: ObjectID) throws(SystemCallError) -> Bool { try status(id) != nil }
}

extension ObjectSink {
    /// Removes an object; a missing one is no error.
    package func removeIfThere(_ id: ObjectID) throws(SystemCallError) {
        do { try remove(id) } catch { if error.errno != .noSuchFileOrDirectory { throw error } }
    }

    /// The default: no lease. Only a store used by a single machine can provide one.
    package func lease(_ kind: ObjectKind) throws(SystemCallError) -> (any StoreLease)? { nil }
}
