// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport
import Testing

@testable import Repository

/// The requirements on every store: a new store must pass `StoreConformance.check`, and have a row in
/// `StoreConformanceTests.stores`.
struct StoreConformance {
    let store: any PrunableStore
    private static let some = ObjectID(.pack, "0123456789abcdef0123456789abcdef")

    /// Runs all checks on an empty store.
    func check() throws {
        try preparesOnce()
        try keepsSmallObjects()
        try tellsKindsApart()
        try createsOnce()
        try writesWholeObjects()
        try readsRanges()
        try removes()
        try touches()
        try retires()
        try keepsOthersAway()
        try worksFromManyThreads()
    }

    private func refusal(_ body: () throws -> Void) -> Errno? {
        do {
            try body()
            return nil
        } catch { return (error as? SystemCallError)?.errno }
    }

    private func write(_ id: ObjectID, _ bytes: [UInt8], in pieces: Int = 1) throws {
        let writer = try store.begin(id)
        let step = max(1, bytes.count / pieces)
        for start in stride(from: 0, to: bytes.count, by: step) {
            try Array(bytes[start..<min(bytes.count, start + step)]).withUnsafeBytes { try writer.write($0) }
        }
        #expect(writer.byteCount == UInt64(bytes.count))
        try writer.commit()
    }

    private func preparesOnce() throws {
        try store.prepare()
        #expect(store.isThere)
        for kind in ObjectKind.allCases { #expect(try store.list(kind).isEmpty, "\(kind)") }
        try store.put(ObjectID(.configuration), [1], [.durable, .isNew])
        #expect(refusal { try store.prepare() } == .directoryNotEmpty)
        #expect(try store.read(ObjectID(.configuration), limit: 10) == [1])
    }

    private func keepsSmallObjects() throws {
        for manner in [[], .durable, .mayBeEmpty, [.durable, .mayBeEmpty]] as [PutManner] {
            for bytes in [[], [7], [UInt8](0..<200)] as [[UInt8]] {
                try store.put(ObjectID(.key, "a"), bytes, manner)
                #expect(try store.read(ObjectID(.key, "a"), limit: 1000) == bytes)
                #expect(try store.status(ObjectID(.key, "a"))?.byteCount == UInt64(bytes.count))
            }
        }
        #expect(try store.read(ObjectID(.key, "a"), limit: 3) == [0, 1, 2])
        try store.flush(.key, ["a"])
        if store.traits.keepsTime {
            let now = try #require(store.now())
            let status = try #require(try store.status(ObjectID(.key, "a")))
            #expect(status.modified <= now && status.modified > now - 600)
        }
        try store.remove(ObjectID(.key, "a"))
    }

    /// Objects of different kinds with one name are distinct.
    private func tellsKindsApart() throws {
        let name = "00112233445566778899aabbccddeeff"
        let kinds = ObjectKind.allCases.filter { $0 != .configuration && $0 != .forgetting }
        for (number, kind) in kinds.enumerated() { try store.put(ObjectID(kind, name), [UInt8(number)], []) }
        try store.put(ObjectID(.forgetting), [99], [])
        for (number, kind) in kinds.enumerated() {
            #expect(try store.list(kind) == [name], "\(kind)")
            #expect(try store.read(ObjectID(kind, name), limit: 10) == [UInt8(number)], "\(kind)")
            #expect(store.name(of: ObjectID(kind, name)).contains(name))
        }
        for kind in kinds { try store.remove(ObjectID(kind, name)) }
        try store.remove(ObjectID(.forgetting))
        for kind in kinds { #expect(try store.list(kind).isEmpty, "\(kind)") }
    }

    private func createsOnce() throws {
        let id = ObjectID(.lock, "new")
        try store.put(id, [1], .isNew)
        #expect(refusal { try store.put(id, [2], .isNew) } == .fileExists)
        #expect(try store.read(id, limit: 10) == [1])
        try store.put(id, [3], [])
        #expect(try store.read(id, limit: 10) == [3])
        try store.remove(id)
        guard store.traits.createsAtomically else { return }
        for _ in 0..<20 {
            let winners = Monitor(0)
            let threads = try (0..<4).map { number in
                try WorkerThread {
                    if (try? store.put(id, [UInt8(number)], .isNew)) != nil { winners.update { $0 += 1 } }
                }
            }
            for thread in threads { thread.join() }
            #expect(winners.update { $0 } == 1)
            try store.remove(id)
        }
    }

    /// An object is invisible before it is complete.
    private func writesWholeObjects() throws {
        let bytes = [UInt8](repeating: 5, count: 100_000)
        var writer: (any ObjectWriter)? = try store.begin(Self.some)
        try bytes.withUnsafeBytes { try writer?.write($0) }
        #expect(try store.status(Self.some) == nil && store.list(.pack).isEmpty)
        writer?.discard()
        #expect(try store.list(.pack).isEmpty)
        writer = try store.begin(Self.some)
        try bytes.withUnsafeBytes { try writer?.write($0) }
        writer = nil
        #expect(try store.list(.pack).isEmpty)
        try write(Self.some, bytes, in: 7)
        #expect(try store.list(.pack) == [Self.some.name])
        #expect(try store.read(Self.some, limit: .max) == bytes)
        // Written a second time: nothing is lost.
        try write(Self.some, bytes)
        #expect(try store.read(Self.some, limit: .max) == bytes)
        try store.remove(Self.some)
    }

    private func readsRanges() throws {
        var random = SeededGenerator(seed: 1)
        let bytes = (0..<(3 << 20) + 17).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        try write(Self.some, bytes, in: 3)
        let reader = try store.open(Self.some)
        #expect(reader.byteCount == UInt64(bytes.count))
        for _ in 0..<50 {
            let start = Int.random(in: 0...bytes.count, using: &random)
            let count = Int.random(in: 0...70_000, using: &random)
            var buffer = [UInt8](repeating: 0, count: count)
            let got = try buffer.withUnsafeMutableBytes { try reader.read(into: $0, at: UInt64(start)) }
            let wanted = bytes[start..<min(bytes.count, start + count)]
            #expect(got == wanted.count && buffer[..<got].elementsEqual(wanted))
        }
        var one: [UInt8] = [0]
        #expect(try one.withUnsafeMutableBytes { try reader.read(into: $0, at: .max) } == 0)
        // Removed while it is open: the same bytes, or none.
        try store.remove(Self.some)
        do {
            var buffer = [UInt8](repeating: 0, count: 1000)
            let got = try buffer.withUnsafeMutableBytes { try reader.read(into: $0, at: 12_345) }
            #expect(got == 1000 && buffer.elementsEqual(bytes[12_345..<13_345]))
        } catch { #expect((error as? SystemCallError)?.errno == .noSuchFileOrDirectory) }
    }

    private func removes() throws {
        #expect(refusal { _ = try store.open(Self.some) } == .noSuchFileOrDirectory)
        #expect(refusal { try store.remove(Self.some) } == .noSuchFileOrDirectory)
        #expect(try store.status(Self.some) == nil)
        try store.removeIfThere(Self.some)
        _ = store.removeLeftovers()
    }

    private func touches() throws {
        let id = ObjectID(.lock, "held")
        try store.put(id, [1, 2, 3], [])
        let first = try #require(try store.status(id)).modified
        SystemFacts.sleep(seconds: 1.1)
        let second = try store.touch(id, [1, 2, 3])
        #expect(try second > first && store.status(id)?.modified == second)
        #expect(try store.read(id, limit: 10) == [1, 2, 3])
        // An empty one, as in a full store.
        try store.put(id, [], [])
        #expect(try store.touch(id, [1, 2, 3]) >= second)
        try store.remove(id)
        #expect(refusal { _ = try store.touch(id, [1, 2, 3]) } == .noSuchFileOrDirectory)
        #expect(try store.list(.lock).isEmpty)
    }

    private func retires() throws {
        let (id, record) = (ObjectID(.snapshot, "s"), ObjectID(.retirement, "s"))
        #expect(refusal { try store.retire(id, as: record) } == .noSuchFileOrDirectory)
        try store.put(id, [1], .durable)
        try store.retire(id, as: record)
        #expect(try !store.contains(id) && store.contains(record))
        try store.remove(record)
    }

    private func keepsOthersAway() throws {
        guard let lease = try store.lease(.key) else { return }
        let isIn = Monitor(false)
        let other = try WorkerThread {
            let second = try? store.lease(.key)
            isIn.update { $0 = true }
            second?.release()
        }
        SystemFacts.sleep(seconds: 0.1)
        #expect(isIn.update { $0 } == false)
        lease.release()
        other.join()
        #expect(isIn.update { $0 })
    }

    private func worksFromManyThreads() throws {
        let failures = Monitor<[String]>([])
        let threads = try (0..<4).map { number in
            try WorkerThread {
                do {
                    for round in 0..<20 {
                        let id = ObjectID(.index, "\(number)-\(round)")
                        let bytes = [UInt8](repeating: UInt8(number), count: 1000 + round)
                        try write(id, bytes)
                        guard try store.read(id, limit: .max) == bytes else {
                            throw SystemCallError("compare", id.name, .ioError)
                        }
                        _ = try store.list(.index)
                        if round % 2 == 0 { try store.remove(id) }
                    }
                } catch { failures.update { $0.append("\(error)") } }
            }
        }
        for thread in threads { thread.join() }
        #expect(failures.update { $0 } == [])
        #expect(try store.list(.index).count == 40)
        for name in try store.list(.index) { try store.remove(ObjectID(.index, name)) }
    }
}

@Suite struct StoreConformanceTests {
    /// Each store, newly made in its own folder.
    static let stores: [(name: String, make: @Sendable (FilePath) throws -> any PrunableStore)] = [
        ("local", { LocalStore($0.appending("repo")) }),
        ("memory", { _ in MemoryStore() }),
        ("memory without times", { _ in MemoryStore(keepsTime: false) }),
        ("cache", { try CachingStore(MemoryStore(), in: $0.appending("cache"), limit: 2500) }),
    ]
    static let numbers = Array(stores.indices)

    @Test(arguments: numbers) func plain(_ number: Int) throws {
        let scratch = try ScratchFolder()
        try StoreConformance(store: try Self.stores[number].make(scratch.path)).check()
    }

    /// Around each store: temporary failures are retried, whether or not the call took effect.
    @Test(arguments: numbers, [false, true]) func failingAndTriedAgain(_ number: Int, isAfter: Bool) throws {
        let scratch = try ScratchFolder()
        let store = try Self.stores[number].make(scratch.path)
        let faulty = FaultyStore(store, .init(at: 2, .timedOut, isAfter: isAfter, period: 7))
        let pauses = Monitor(0)
        try StoreConformance(store: RetryingStore(faulty, attempts: 20) { _ in pauses.update { $0 += 1 } }).check()
        #expect(pauses.update { $0 } > 50)
    }

    /// Around each store: without a fault it behaves like the inner store, even if slow.
    @Test(arguments: numbers) func slow(_ number: Int) throws {
        let scratch = try ScratchFolder()
        try StoreConformance(store: FaultyStore(try Self.stores[number].make(scratch.path), delay: 0.0002)).check()
    }

    @Test func aFaultComesWhereItIsToCome() throws {
        let memory = MemoryStore()
        let (one, two) = (ObjectID(.snapshot, "one"), ObjectID(.snapshot, "two"))
        let dying = FaultyStore(memory, .init(at: 1, isFinal: true))
        try dying.put(one, [1, 2], [])
        for _ in 0..<3 { #expect(throws: SystemCallError.self) { try dying.put(two, [1, 2], []) } }
        #expect(Set(memory.contents.keys) == [one])
        let late = FaultyStore(memory, .init(at: 0, isAfter: true))
        #expect(throws: SystemCallError.self) { try late.put(two, [3, 4], []) }
        #expect(memory.contents[two] == [3, 4])
        let tearing = FaultyStore(memory, .init(at: 0, tears: true))
        #expect(throws: SystemCallError.self) { try tearing.put(two, [5, 6, 7, 8], []) }
        #expect(memory.contents[two] == [5, 6])
        #expect(tearing.callCount == 1)
    }

    @Test func whatFailsForGoodFails() throws {
        let memory = MemoryStore()
        let pauses = Monitor(0)
        let broken = RetryingStore(FaultyStore(memory, .init(at: 0, isFinal: true)), attempts: 4) { _ in
            pauses.update { $0 += 1 }
        }
        #expect(throws: SystemCallError.self) { try broken.list(.pack) }
        #expect(pauses.update { $0 } == 3)
        // A permanent error is not retried.
        #expect(throws: SystemCallError.self) { try RetryingStore(memory).open(ObjectID(.pack, "none")) }
        let full = RetryingStore(FaultyStore(memory, .init(at: 0, .noSpace, isFinal: true))) { _ in
            Issue.record("a full store is asked again")
        }
        #expect(throws: SystemCallError.self) { try full.put(ObjectID(.pack, "a"), [1], []) }
    }

    @Test func aCacheAsksOnceAndKeepsItsLimit() throws {
        let scratch = try ScratchFolder()
        let memory = MemoryStore()
        let counter = FaultyStore(memory)
        let cache = try CachingStore(counter, in: scratch.path.appending("c"), limit: 2000)
        let ids = (0..<5).map { ObjectID(.index, "\($0)") }
        for (number, id) in ids.enumerated() {
            try memory.put(id, [UInt8](repeating: UInt8(number), count: 900), [])
        }
        func kept() -> Int { Files.names(in: scratch.path.appending("c/indexes")).count }
        for (number, id) in ids.enumerated() {
            #expect(try cache.read(id, limit: .max) == [UInt8](repeating: UInt8(number), count: 900))
        }
        #expect(kept() == 2)
        let before = counter.callCount
        #expect(try cache.read(ids[4], limit: .max).count == 900)
        // The call that checks its existence.
        #expect(counter.callCount == before + 1)
        // Removed from the inner store: the cache must not return it.
        try memory.remove(ids[4])
        #expect(throws: SystemCallError.self) { try cache.open(ids[4]) }
        #expect(kept() == 1)
        // Another instance uses the kept files.
        let again = try CachingStore(counter, in: scratch.path.appending("c"), limit: 2000)
        let second = counter.callCount
        #expect(try again.read(ids[3], limit: .max).count == 900 && counter.callCount == second + 1)
    }
}
