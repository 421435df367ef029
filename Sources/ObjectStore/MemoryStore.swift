// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import Synchronization
import SystemPackage

/// A repository in memory with the minimal abilities of a store, for tests of the rules. It has no rename.
package final class MemoryStore: PrunableStore {
    private struct Held {
        var bytes: [UInt8]
        var modified: Int64
    }
    private let objects = Mutex<[ObjectID: Held]>([:])
    private let clock: @Sendable () -> Int64
    package let traits: StoreTraits
    package let name: String
    package let isThere = true

    /// An empty store.
    /// - Parameters:
    ///   - keepsTime: whether its times are reliable.
    ///   - clock: its clock, in seconds since 1970.
    package init(
        name: String = "memory:", keepsTime: Bool = true,
        clock: @escaping @Sendable () -> Int64 = { SystemFacts.unixSeconds() }
    ) {
        self.name = name
        self.clock = clock
        var traits = StoreTraits()
        traits.keepsTime = keepsTime
        traits.retiresInOneStep = false
        self.traits = traits
    }

    /// A store with a copy of the current objects of another one.
    package convenience init(copying other: MemoryStore) {
        self.init(name: other.name, keepsTime: other.traits.keepsTime, clock: other.clock)
        let held = other.objects.withLock { $0 }
        objects.withLock { $0 = held }
    }

    /// All objects.
    package var contents: [ObjectID: [UInt8]] { objects.withLock { $0.mapValues(\.bytes) } }

    /// Replaces the bytes of an object, as damage does; its time is unchanged.
    package func overwrite(_ id: ObjectID, _ bytes: [UInt8]) {
        objects.withLock { $0[id]?.bytes = bytes }
    }

    package func name(of id: ObjectID) -> String { "\(name)\(id.kind.rawValue)/\(id.name)" }

    package func name(ofAll kind: ObjectKind) -> String { "\(name)\(kind.rawValue)" }

    private func missing(_ action: String, _ id: ObjectID) -> SystemCallError {
        SystemCallError(action, name(of: id), .noSuchFileOrDirectory)
    }

    package func list(_ kind: ObjectKind) throws(SystemCallError) -> [String] {
        objects.withLock { $0.keys.filter { $0.kind == kind }.map(\.name) }
    }

    package func status(_ id: ObjectID) throws(SystemCallError) -> ObjectStatus? {
        objects.withLock { $0[id] }.map { ObjectStatus(byteCount: UInt64($0.bytes.count), modified: $0.modified) }
    }

    package func open(_ id: ObjectID) throws(SystemCallError) -> any ObjectReader {
        guard let held = objects.withLock({ $0[id] }) else { throw missing("open", id) }
        return BytesReader(held.bytes)
    }

    package func prepare() throws(SystemCallError) {
        guard objects.withLock({ $0.isEmpty }) else {
            throw SystemCallError("create a repository in", name, .directoryNotEmpty)
        }
    }

    package func begin(_ id: ObjectID) throws(SystemCallError) -> any ObjectWriter {
        BytesWriter { (bytes) throws(SystemCallError) in try self.put(id, bytes, .durable) }
    }

    package func put(_ id: ObjectID, _ bytes: [UInt8], _ manner: PutManner) throws(SystemCallError) {
        let now = clock()
        let isTaken = objects.withLock { objects in
            if manner.contains(.isNew), objects[id] != nil { return true }
            objects[id] = Held(bytes: bytes, modified: now)
            return false
        }
        if isTaken { throw SystemCallError("create", name(of: id), .fileExists) }
    }

    package func touch(_ id: ObjectID, _ bytes: [UInt8]) throws(SystemCallError) -> Int64 {
        let now = clock()
        let isThere = objects.withLock { objects in
            objects[id]?.modified = now
            return objects[id] != nil
        }
        guard isThere else { throw missing("find", id) }
        return now
    }

    package func remove(_ id: ObjectID) throws(SystemCallError) {
        guard objects.withLock({ $0.removeValue(forKey: id) }) != nil else { throw missing("remove", id) }
    }

    package func flush(_ kind: ObjectKind, _ names: [String]) throws(SystemCallError) {
        for name in names {
            guard try contains(ObjectID(kind, name)) else { throw missing("write", ObjectID(kind, name)) }
        }
    }

    package func now() -> Int64? { clock() }
    package func removeLeftovers() -> UInt64 { 0 }
    package var freeByteCount: UInt64? { nil }

    /// Writes the record, then removes the object: in between, both exist.
    package func retire(_ id: ObjectID, as record: ObjectID) throws(SystemCallError) {
        let bytes = try read(id, limit: .max)
        try put(record, bytes, .durable)
        try remove(id)
    }
}

/// Reads an object from memory.
package final class BytesReader: ObjectReader {
    private let bytes: [UInt8]
    package init(_ bytes: [UInt8]) { self.bytes = bytes }
    package var byteCount: UInt64 { UInt64(bytes.count) }

    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(SystemCallError) -> Int {
        guard offset < UInt64(bytes.count) else { return 0 }
        let count = min(buffer.count, bytes.count - Int(offset))
        unsafe bytes.withUnsafeBytes { source in
            unsafe buffer.copyMemory(
                from: UnsafeRawBufferPointer(rebasing: source[Int(offset)..<Int(offset) + count]))
        }
        return count
    }
}

/// Collects an object in memory, and writes it as a whole.
package final class BytesWriter: ObjectWriter {
    private var bytes: [UInt8] = []
    private var isEnded = false
    private let publish: ([UInt8]) throws(SystemCallError) -> Void

    /// - Parameter publish: receives the bytes at the commit.
    package init(_ publish: @escaping ([UInt8]) throws(SystemCallError) -> Void) { self.publish = publish }

    package var byteCount: UInt64 { UInt64(bytes.count) }
    package func write(_ part: UnsafeRawBufferPointer) throws(SystemCallError) { unsafe bytes.append(contentsOf: part) }
    package func commit() throws(SystemCallError) {
        guard !isEnded else { return }
        isEnded = true
        try publish(bytes)
        bytes = []
    }
    package func discard() {
        isEnded = true
        bytes = []
    }
}
