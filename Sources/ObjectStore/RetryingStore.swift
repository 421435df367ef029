// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A store that repeats failed calls of an unreliable one: each call is repeated until it succeeds or fails
/// permanently.
package final class RetryingStore: WrappedStore {
    package let inner: any PrunableStore
    private let attempts: Int
    private let cancellation: Cancellation
    private let pause: @Sendable (Int) -> Void

    /// - Parameters:
    ///   - attempts: the largest number of attempts for a call.
    ///   - cancellation: ends the retries.
    ///   - pause: waits between two attempts, with the number of failed ones; by default half a second, doubled each
    ///     time.
    package init(
        _ inner: any PrunableStore, attempts: Int = 6, cancellation: Cancellation = Cancellation(),
        pause: (@Sendable (Int) -> Void)? = nil
    ) {
        self.inner = inner
        self.attempts = max(1, attempts)
        self.cancellation = cancellation
        if let pause {
            self.pause = pause
        } else {
            self.pause = { SystemFacts.sleep(seconds: 0.25 * Double(1 << min($0, 7)), unless: cancellation) }
        }
    }

    /// Whether the next attempt may succeed.
    static func isTransient(_ reason: Errno) -> Bool {
        let transient: [Errno] = [
            .ioError, .timedOut, .connectionReset, .connectionRefused, .connectionAbort, .networkUnreachable,
            .networkDown, .networkReset, .hostIsDown, .noRouteToHost, .resourceTemporarilyUnavailable, .interrupted,
            .brokenPipe, .staleNFSFileHandle, .resourceBusy,
        ]
        return transient.contains(reason)
    }

    private func run<Value>(
        isFlush: Bool = false, _ call: (_ isRepeated: Bool) throws(SystemCallError) -> Value
    ) throws(SystemCallError) -> Value {
        var failed = 0
        while true {
            do { return try call(failed > 0) } catch {
                failed += 1
                let isWorthIt = Self.isTransient(error.errno) && !(isFlush && error.errno == .ioError)
                guard failed < attempts, isWorthIt, !cancellation.isRequested else { throw error }
                pause(failed)
            }
        }
    }

    package func list(_ kind: ObjectKind) throws(SystemCallError) -> [String] {
        try run { (_) throws(SystemCallError) in try inner.list(kind) }
    }
    package func status(_ id: ObjectID) throws(SystemCallError) -> ObjectStatus? {
        try run { (_) throws(SystemCallError) in try inner.status(id) }
    }
    package func open(_ id: ObjectID) throws(SystemCallError) -> any ObjectReader {
        let reader = try run { (_) throws(SystemCallError) in try inner.open(id) }
        return Reader(self, reader)
    }

    /// Written bytes are kept until the commit, so that all of them can be sent again: at most a pack, 64 MiB.
    package func begin(_ id: ObjectID) throws(SystemCallError) -> any ObjectWriter {
        BytesWriter { (bytes) throws(SystemCallError) in
            try self.run { (_) throws(SystemCallError) in
                let writer = try self.inner.begin(id)
                let outcome = unsafe bytes.withUnsafeBytes { buffer in
                    Result { () throws(SystemCallError) in unsafe try writer.write(buffer) }
                }
                try outcome.get()
                try writer.commit()
            }
        }
    }

    package func put(_ id: ObjectID, _ bytes: [UInt8], _ manner: PutManner) throws(SystemCallError) {
        try run { (isRepeated) throws(SystemCallError) in
            do throws(SystemCallError) { try inner.put(id, bytes, manner) } catch {
                // The object may be from the previous attempt, whose reply was lost.
                guard isRepeated, error.errno == .fileExists, manner.contains(.isNew),
                    (try? read(id, limit: bytes.count + 1)) == bytes
                else { throw error }
            }
        }
    }
    package func touch(_ id: ObjectID, _ bytes: [UInt8]) throws(SystemCallError) -> Int64 {
        try run { (_) throws(SystemCallError) in try inner.touch(id, bytes) }
    }
    package func remove(_ id: ObjectID) throws(SystemCallError) {
        try run { (isRepeated) throws(SystemCallError) in
            do throws(SystemCallError) { try inner.remove(id) } catch {
                guard isRepeated, error.errno == .noSuchFileOrDirectory else { throw error }
            }
        }
    }
    package func flush(_ kind: ObjectKind, _ names: [String]) throws(SystemCallError) {
        // A second flush after a failed write may succeed although the data is lost (fsync(2)).
        try run(isFlush: true) { (_) throws(SystemCallError) in try inner.flush(kind, names) }
    }
    package func retire(_ id: ObjectID, as record: ObjectID) throws(SystemCallError) {
        try run { (isRepeated) throws(SystemCallError) in
            do throws(SystemCallError) { try inner.retire(id, as: record) } catch {
                guard isRepeated, error.errno == .noSuchFileOrDirectory, try inner.contains(record) else { throw error }
            }
        }
    }

    private final class Reader: ObjectReader {
        let store: RetryingStore
        let inner: any ObjectReader
        init(_ store: RetryingStore, _ inner: any ObjectReader) { (self.store, self.inner) = (store, inner) }
        var byteCount: UInt64 { inner.byteCount }
        func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(SystemCallError) -> Int {
            try store.run { (_) throws(SystemCallError) in unsafe try inner.read(into: buffer, at: offset) }
        }
    }
}
