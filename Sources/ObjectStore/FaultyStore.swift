// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import Synchronization
import SystemPackage

/// A store that fails, for tests: at the k-th call, once or permanently, before or after the call takes effect.
package final class FaultyStore: WrappedStore {
    package let inner: any PrunableStore

    /// An injected fault.
    package struct Fault: Sendable {
        /// The number of the failing call, from 0.
        package var call: Int
        /// The error.
        package var errno: Errno
        /// Whether all later calls fail too, as after the end of the process or the loss of the store.
        package var isFinal: Bool
        /// Whether the call takes effect before it fails, as if the reply was lost.
        package var isAfter: Bool
        /// Whether a failing write leaves half of the object under its name, as a store without an atomic put may do.
        package var tears: Bool

        /// The number of calls after which it recurs; `nil` for never.
        package var period: Int?

        /// Makes a fault.
        package init(
            at call: Int, _ errno: Errno = .ioError, isFinal: Bool = false, isAfter: Bool = false, tears: Bool = false,
            period: Int? = nil
        ) {
            (self.call, self.errno, self.isFinal, self.isAfter, self.tears) = (call, errno, isFinal, isAfter, tears)
            self.period = period
        }

        func hits(_ number: Int) -> Bool {
            guard number > call else { return number == call }
            return isFinal || period.map { (number - call) % $0 == 0 } ?? false
        }
    }
    private let fault: Fault?
    private let delay: Double
    private let count = Atomic<Int>(0)

    /// - Parameters:
    ///   - fault: the fault; `nil` for none, to count calls.
    ///   - delay: added to each call, in seconds.
    package init(_ inner: any PrunableStore, _ fault: Fault? = nil, delay: Double = 0) {
        self.inner = inner
        self.fault = fault
        self.delay = delay
    }

    /// The number of calls.
    package var callCount: Int { count.load(ordering: .relaxed) }

    private func run<Value>(
        _ what: String, _ call: () throws(SystemCallError) -> Value
    ) throws(SystemCallError) -> Value {
        let number = count.wrappingAdd(1, ordering: .relaxed).oldValue
        if delay > 0 { SystemFacts.sleep(seconds: delay) }
        guard let fault, fault.hits(number) else { return try call() }
        if fault.isAfter, number == fault.call || !fault.isFinal { _ = try call() }
        throw SystemCallError(what, name, fault.errno)
    }

    package func list(_ kind: ObjectKind) throws(SystemCallError) -> [String] {
        try run("list") { () throws(SystemCallError) in try inner.list(kind) }
    }
    package func status(_ id: ObjectID) throws(SystemCallError) -> ObjectStatus? {
        try run("look at") { () throws(SystemCallError) in try inner.status(id) }
    }
    package func open(_ id: ObjectID) throws(SystemCallError) -> any ObjectReader {
        let reader = try run("open") { () throws(SystemCallError) in try inner.open(id) }
        return Reader(self, reader)
    }
    package func begin(_ id: ObjectID) throws(SystemCallError) -> any ObjectWriter {
        let writer = try run("begin") { () throws(SystemCallError) in try inner.begin(id) }
        return Writer(self, id, writer)
    }
    package func put(_ id: ObjectID, _ bytes: [UInt8], _ manner: PutManner) throws(SystemCallError) {
        do { try run("write") { () throws(SystemCallError) in try inner.put(id, bytes, manner) } } catch {
            if isTorn { try? inner.put(id, Array(bytes[..<(bytes.count / 2)]), manner) }
            throw error
        }
    }
    package func touch(_ id: ObjectID, _ bytes: [UInt8]) throws(SystemCallError) -> Int64 {
        try run("touch") { () throws(SystemCallError) in try inner.touch(id, bytes) }
    }
    package func remove(_ id: ObjectID) throws(SystemCallError) {
        try run("remove") { () throws(SystemCallError) in try inner.remove(id) }
    }
    package func flush(_ kind: ObjectKind, _ names: [String]) throws(SystemCallError) {
        try run("flush") { () throws(SystemCallError) in try inner.flush(kind, names) }
    }
    package func retire(_ id: ObjectID, as record: ObjectID) throws(SystemCallError) {
        try run("retire") { () throws(SystemCallError) in try inner.retire(id, as: record) }
    }

    /// Whether the call that just failed must leave half of the written object.
    private var isTorn: Bool {
        guard let fault, fault.tears, !fault.isAfter else { return false }
        return callCount == fault.call + 1
    }

    private final class Reader: ObjectReader {
        let store: FaultyStore
        let inner: any ObjectReader
        init(_ store: FaultyStore, _ inner: any ObjectReader) { (self.store, self.inner) = (store, inner) }
        var byteCount: UInt64 { inner.byteCount }
        func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(SystemCallError) -> Int {
            try store.run("read") { () throws(SystemCallError) in unsafe try inner.read(into: buffer, at: offset) }
        }
    }

    private final class Writer: ObjectWriter {
        let store: FaultyStore
        let id: ObjectID
        let inner: any ObjectWriter
        init(_ store: FaultyStore, _ id: ObjectID, _ inner: any ObjectWriter) {
            (self.store, self.id, self.inner) = (store, id, inner)
        }
        var byteCount: UInt64 { inner.byteCount }
        func write(_ bytes: UnsafeRawBufferPointer) throws(SystemCallError) { unsafe try inner.write(bytes) }
        func commit() throws(SystemCallError) {
            do { try store.run("commit") { () throws(SystemCallError) in try inner.commit() } } catch {
                if store.isTorn, (try? inner.commit()) != nil, let bytes = try? store.inner.read(id, limit: .max) {
                    try? store.inner.put(id, Array(bytes[..<(bytes.count / 2)]), [])
                }
                throw error
            }
        }
        func discard() { inner.discard() }
    }
}
