// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// A wrapper around a store, which forwards all calls that it does not implement.
package protocol WrappedStore: PrunableStore {
    /// The store below.
    var inner: any PrunableStore { get }
}

extension WrappedStore {
    package var name: String { inner.name }
    package var traits: StoreTraits { inner.traits }
    package var isThere: Bool { inner.isThere }
    package func name(of id: ObjectID) -> String { inner.name(of: id) }
    package func name(ofAll kind: ObjectKind) -> String { inner.name(ofAll: kind) }
    package func list(_ kind: ObjectKind) throws(SystemCallError) -> [String] { try inner.list(kind) }
    package func status(_ id: ObjectID) throws(SystemCallError) -> ObjectStatus? { try inner.status(id) }
    package func open(_ id: ObjectID) throws(SystemCallError) -> any ObjectReader { try inner.open(id) }
    package func prepare() throws(SystemCallError) { try inner.prepare() }
    package func begin(_ id: ObjectID) throws(SystemCallError) -> any ObjectWriter { try inner.begin(id) }
    package func put(_ id: ObjectID, _ bytes: [UInt8], _ manner: PutManner) throws(SystemCallError) {
        try inner.put(id, bytes, manner)
    }
    package func touch(_ id: ObjectID, _ bytes: [UInt8]) throws(SystemCallError) -> Int64 {
        try inner.touch(id, bytes)
    }
    package func remove(_ id: ObjectID) throws(SystemCallError) { try inner.remove(id) }
    package func flush(_ kind: ObjectKind, _ names: [String]) throws(SystemCallError) { try inner.flush(kind, names) }
    package func now() -> Int64? { inner.now() }
    package func removeLeftovers() -> UInt64 { inner.removeLeftovers() }
    package func lease(_ kind: ObjectKind) throws(SystemCallError) -> (any StoreLease)? { try inner.lease(kind) }
    package func retire(_ id: ObjectID, as record: ObjectID) throws(SystemCallError) {
        try inner.retire(id, as: record)
    }
    package var freeByteCount: UInt64? { inner.freeByteCount }
}
