// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

// Errors of a store are `SystemCallError`s: ENOENT where an object is not there, EEXIST where one is that should not be, ENOSPC and
// EDQUOT where the store is full, EROFS and EACCES where nothing can be written. A store elsewhere translates its own into these.

/// What a store can be relied on for. Asked, never guessed from its type.
package struct StoreTraits: Equatable, Sendable {
    /// Whether a new object (`PutManner.isNew`) fails in one step where its name is taken: of two that put it at once, one fails.
    package var createsAtomically = true
    /// Whether a part of an object costs no more than that part.
    package var readsRanges = true
    /// Whether times are the store's own. Where they are those of the machines that write, they count as none.
    package var keepsTime = true
    /// Whether nothing that is there can be removed or replaced, whoever asks.
    package var isAppendOnly = false
    /// Whether `PrunableStore.retire` is one step: at no time are both there, or neither.
    package var retiresInOneStep = true

    /// A store with all of them, as a local folder is.
    package init() {}
}

/// What a store says of an object.
package struct ObjectStatus: Equatable, Sendable {
    /// Its length.
    package var byteCount: UInt64
    /// When it was put or touched last, in seconds since 1970; by whose clock, `StoreTraits.keepsTime` says.
    package var modified: Int64

    /// Names both.
    package init(byteCount: UInt64, modified: Int64) {
        self.byteCount = byteCount
        self.modified = modified
    }
}

/// A store that can be read. From any thread.
package protocol ObjectSource: AnyObject, Sendable {
    /// How messages call it: a path, an address.
    var name: String { get }
    /// What it can be relied on for.
    var traits: StoreTraits { get }
    /// Whether its place is there: a folder, a bucket.
    var isThere: Bool { get }

    /// How messages call an object: where a person finds it.
    func name(of id: ObjectID) -> String
    /// How messages call all objects of a kind.
    func name(ofAll kind: ObjectKind) -> String
    /// The names of all objects of a kind, in any order. A store that cannot tell throws: that must never pass for none.
    func list(_ kind: ObjectKind) throws(SystemCallError) -> [String]
    /// What it says of an object; `nil` where that is not there.
    func status(_ id: ObjectID) throws(SystemCallError) -> ObjectStatus?
    /// Opens an object.
    func open(_ id: ObjectID) throws(SystemCallError) -> any ObjectReader
}

/// An open object, read at known places, from any thread. Somebody may remove it meanwhile: then it stays readable, or reading
/// it throws ENOENT; it never gives other bytes.
package protocol ObjectReader: AnyObject, Sendable {
    /// Its length.
    var byteCount: UInt64 { get }
    /// Fills `buffer` from `offset` on.
    /// - Returns: how many bytes there were: fewer only where the object ends.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(SystemCallError) -> Int
}

/// How a small object is put.
package struct PutManner: OptionSet, Sendable {
    package let rawValue: Int
    package init(rawValue: Int) { self.rawValue = rawValue }

    /// It survives a power cut once the call has returned.
    package static let durable = PutManner(rawValue: 1)
    /// EEXIST where one of this name is there.
    package static let isNew = PutManner(rawValue: 2)
    /// Where the store is full, an empty one will do.
    package static let mayBeEmpty = PutManner(rawValue: 4)
}

/// A store that objects can be added to.
package protocol ObjectSink: ObjectSource {
    /// Makes the place ready for a new repository.
    /// - Throws: ENOTEMPTY where anything is there already.
    func prepare() throws(SystemCallError)
    /// Begins an object. Nobody sees it before `commit`.
    func begin(_ id: ObjectID) throws(SystemCallError) -> any ObjectWriter
    /// Puts a small object, all of it or nothing, in place of one of that name.
    func put(_ id: ObjectID, _ bytes: [UInt8], _ manner: PutManner) throws(SystemCallError)
    /// Puts an object that is there again, with the same bytes, so that its time moves. One that was removed does not come back
    /// where the store can tell.
    /// - Returns: its time.
    func touch(_ id: ObjectID, _ bytes: [UInt8]) throws(SystemCallError) -> Int64
    /// Removes an object. ENOENT where it is not there.
    func remove(_ id: ObjectID) throws(SystemCallError)
    /// Waits until objects that were put, and names of their kind that were put or removed, survive a power cut.
    func flush(_ kind: ObjectKind, _ names: [String]) throws(SystemCallError)
    /// The time by the store's clock; `nil` where it has none, or nothing can be written.
    func now() -> Int64?
    /// Removes what writers left that are no more.
    /// - Returns: the bytes that came free.
    func removeLeftovers() -> UInt64
    /// Keeps others who ask for the same away until it is released, where the store can do that; `nil` elsewhere.
    func lease(_ kind: ObjectKind) throws(SystemCallError) -> (any StoreLease)?
}

/// What keeps others away from a kind of objects.
package protocol StoreLease: Sendable {
    /// Lets others in.
    func release()
}

/// An object while it is written.
package protocol ObjectWriter: AnyObject {
    /// The length so far.
    var byteCount: UInt64 { get }
    /// Appends.
    func write(_ bytes: UnsafeRawBufferPointer) throws(SystemCallError)
    /// Makes it durable, then visible under its name. Once, as the last.
    func commit() throws(SystemCallError)
    /// Leaves nothing of it. (Also what happens when its last reference goes.)
    func discard()
}

/// A store whose objects can go.
package protocol PrunableStore: ObjectSink {
    /// Lets `record` take the place of `id`. Wherever it ends, one of both is there.
    /// - Throws: ENOENT where `id` is not there.
    func retire(_ id: ObjectID, as record: ObjectID) throws(SystemCallError)
    /// The bytes that can still be stored; `nil` where nobody knows.
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

    /// Whether an object is there.
    package func contains(_ id: ObjectID) throws(SystemCallError) -> Bool { try status(id) != nil }
}

extension ObjectSink {
    /// Removes an object; one that is gone is no error.
    package func removeIfThere(_ id: ObjectID) throws(SystemCallError) {
        do { try remove(id) } catch { if error.errno != .noSuchFileOrDirectory { throw error } }
    }

    /// No store can but one that a machine has for itself.
    package func lease(_ kind: ObjectKind) throws(SystemCallError) -> (any StoreLease)? { nil }
}
