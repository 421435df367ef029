// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

/// Every operation on a repository may end at any of its calls to the store. No finished work is lost, and a repetition
/// succeeds.
@Suite struct StoreDeathTests {
    /// A repository in memory, whose clock can be set forward.
    final class Fixture {
        let clock = Monitor(SystemFacts.unixSeconds())
        let store: MemoryStore
        let keys: MasterKeys?
        var random: SeededGenerator
        var expected: [ContentHash: [UInt8]] = [:]

        init(seed: UInt64, keepsTime: Bool, encrypted: Bool) throws {
            print("seed \(seed)")
            random = SeededGenerator(seed: seed)
            let clock = clock
            store = MemoryStore(keepsTime: keepsTime) { clock.update { $0 } }
            keys = encrypted ? .random() : nil
            let (store, keys) = (store, keys)
            _ = try Repository.create(in: store, chunkByteCount: MadeUpDiskCapture.chunkByteCount, keys: keys) {
                if let keys { try KeyStore(store).add(keys, password: [1], label: "test", cost: cheap) }
            }
        }

        func disk() throws -> MadeUpDiskCapture {
            var disk = try MadeUpDiskCapture(&random, partitionByteCount: 600_064)
            for index in 0..<MadeUpDiskCapture.chunkByteCount {
                disk.bytes[index] = UInt8.random(in: 0...255, using: &random)
            }
            return disk
        }

        func open(_ store: any PrunableStore) throws -> Repository { try Repository.open(store, keys: keys) }

        @discardableResult
        func capture(_ disk: MadeUpDiskCapture) throws -> ContentHash {
            let id = try StoreDeathTests.capture(disk, try open(store))
            expected[id] = PruneFixture.used(disk)
            return id
        }

        /// A copy without the locks of ended processes.
        func copy(of store: MemoryStore) throws -> MemoryStore {
            let copy = MemoryStore(copying: store)
            for name in try copy.list(.lock) { try copy.remove(ObjectID(.lock, name)) }
            return copy
        }

        /// Checks that each of these snapshots is intact, and nothing else is damaged.
        func check(_ store: MemoryStore, _ ids: some Sequence<ContentHash>, _ comment: String) throws {
            let repository = try open(try copy(of: store))
            let report = try repository.verify(readDataPercent: 100)
            #expect(report.problems.isEmpty, "\(comment): \(report.problems)")
            for id in ids {
                let reader = try repository.reader(try repository.snapshot(id))
                let isSame = try MadeUpDiskCapture.read(reader) == expected[id]
                #expect(isSame, "\(comment)")
            }
        }
    }

    @discardableResult
    static func capture(_ disk: MadeUpDiskCapture, _ repository: Repository) throws -> ContentHash {
        let lock = try repository.lock(.capture)
        defer { lock.release() }
        let writer = try repository.writer(
            header: disk.header, host: "host", disk: "disk", tags: [], level: 3, mayPublish: { try lock.confirm() })
        do { return try #require(try disk.capture(into: writer)).id } catch {
            writer.abandon()
            throw error
        }
    }

    enum Work: String, CaseIterable, Sendable {
        case capture, forget, prune, merge, verify, repair
    }

    /// - Parameters:
    ///   - next: the disk that a capture stores.
    ///   - old: the snapshot to be removed.
    static func run(_ work: Work, _ repository: Repository, next: MadeUpDiskCapture, old: ContentHash) throws {
        switch work {
        case .capture: try capture(next, repository)
        case .forget: try repository.forget([old])
        case .prune: _ = try repository.prune(grace: 0, confirmedMissing: nil)
        case .merge:
            let lock = try repository.lock(.merge)
            defer { lock.release() }
            _ = try repository.mergeSmallIndexes { try lock.confirm() }
        case .verify:
            let report = try repository.verify(readDataPercent: 100)
            // Unreadable data is reported.
            if let first = report.problems.first { throw ImageError.refused("\(first)") }
        case .repair: _ = try repository.repair()
        }
    }

    @Test(arguments: Work.allCases, [true, false]) func endsAtAnyCall(_ work: Work, keepsTime: Bool) throws {
        let fixture = try Fixture(
            seed: Sample.seed(of: "\(#function) \(work) \(keepsTime)"), keepsTime: keepsTime,
            encrypted: keepsTime && work == .prune)
        let shared = try fixture.disk()
        let old = try fixture.capture(shared)
        var changed = shared
        changed.header.manifest.started = "2026-01-03T03:04:05Z"
        for (number, chunk) in shared.chunks.filter({ $0.kind == .data }).enumerated() where number % 2 == 0 {
            changed.bytes[Int(chunk.range.lowerBound)] ^= 0xFF
        }
        try fixture.capture(changed)
        let third = try fixture.disk()
        let gone = try fixture.capture(third)
        if work == .merge { for _ in 0..<8 { try fixture.capture(try fixture.disk()) } }
        let repository = try fixture.open(fixture.store)
        if work == .prune {
            // Something to mark, to remove, to copy and to take back.
            try repository.forget([gone])
            fixture.expected[gone] = nil
            _ = try repository.prune()
            try repository.forget([old])
            fixture.expected[old] = nil
            fixture.clock.update { $0 += 2 * 24 * 3600 }
        }
        if work == .repair {
            // Damage to be repaired: a content of the first pack, which two snapshots need.
            let name = try #require(try fixture.store.list(.pack).sorted().first)
            var bytes = try fixture.store.read(ObjectID(.pack, name), limit: .max)
            bytes[bytes.count / 2] ^= 0x55
            fixture.store.overwrite(ObjectID(.pack, name), bytes)
        }
        let next = try fixture.disk()
        let before = Set(fixture.expected.keys)
        let kept = work == .forget ? before.subtracting([old]) : before

        let count: Int
        do {
            let counter = FaultyStore(try fixture.copy(of: fixture.store))
            try Self.run(work, try fixture.open(counter), next: next, old: old)
            count = counter.callCount
        }
        print("\(work.rawValue): \(count) calls")
        #expect(count > 3)
        let step = Sample.isFull ? 1 : max(1, count / 12)
        for start in stride(from: Int.random(in: 0..<step, using: &fixture.random), to: count, by: step) {
            for isAfter in [false, true] {
                let comment = "\(work.rawValue), call \(start) of \(count)\(isAfter ? ", done" : "")"
                let store = try fixture.copy(of: fixture.store)
                let dying = FaultyStore(store, .init(at: start, isFinal: true, isAfter: isAfter))
                let ended = Result { try Self.run(work, try fixture.open(dying), next: next, old: old) }
                // Failures at the very end (removing the lock) may go unreported; a verify never reports unread data as
                // intact.
                if work == .verify, !isAfter, start < count - 8 {
                    #expect(throws: (any Error).self, "\(comment)") { try ended.get() }
                }
                if work == .repair {
                    // Repaired, and captured again, everything is whole.
                    let after = try fixture.copy(of: store)
                    let repository = try fixture.open(after)
                    try Self.run(.repair, repository, next: next, old: old)
                    for disk in [shared, changed, third] { try Self.capture(disk, repository) }
                    try fixture.check(after, kept, "\(comment), and repaired and captured again")
                    continue
                }
                try fixture.check(store, kept, comment)
                let after = try fixture.copy(of: store)
                try Self.run(work, try fixture.open(after), next: next, old: old)
                try fixture.check(after, kept, "\(comment), and again")
                _ = try fixture.open(after).prune(grace: 0)
                try fixture.check(after, kept, "\(comment), and again, and pruned")
            }
        }
    }

    /// A snapshot forgotten in two steps is never missing in between.
    @Test func forgettingInTwoStepsLeavesNoneMissing() throws {
        let fixture = try Fixture(seed: 1, keepsTime: true, encrypted: false)
        let old = try fixture.capture(try fixture.disk())
        try fixture.capture(try fixture.disk())
        let store = try fixture.copy(of: fixture.store)
        try store.put(.retirement(old), try store.read(.snapshot(old), limit: .max), .durable)
        // Both are there: it is not forgotten yet, and a prune removes the record.
        let report = try fixture.open(store).prune(grace: 0)
        #expect(report.removed.packCount == 0 && report.snapshotCount == 2)
        #expect(try store.list(.retirement).isEmpty)
        try fixture.check(store, fixture.expected.keys, "after prune")
        try fixture.open(store).forget([old])
        #expect(try fixture.open(store).prune(grace: 0).removed.packCount == 1)
    }

    /// A store without file times cannot prove that a holder on another machine is dead: only watching its lock does.
    @Test func aLockWithoutTimesIsWatched() throws {
        let fixture = try Fixture(seed: 2, keepsTime: false, encrypted: false)
        var record = LockRecord(.prune)
        record.holder.host = "elsewhere"
        record.holder.machine = "another"
        record.holder.boot = "another"
        record.started = "2001-01-01T00:00:00Z"
        let id = ObjectID(.lock, record.uuid.description)
        try fixture.store.put(id, try JSONText.encode(record), [])
        fixture.clock.update { $0 += 10 * 24 * 3600 }
        #expect(throws: ImageError.self) { try fixture.open(fixture.store).lock(.prune) }
        #expect(try fixture.store.contains(id))
        // Renewed while it is watched: its holder lives.
        let stillThere = Monitor(true)
        let clock = fixture.clock
        let store = fixture.store
        let bytes = try JSONText.encode(record)
        let holder = try WorkerThread {
            while stillThere.update({ $0 }) {
                clock.update { $0 += 1 }
                try? store.put(id, bytes, [])
                SystemFacts.sleep(seconds: 0.05)
            }
        }
        // On a busy machine, seconds pass between two renewals.
        #expect(throws: ImageError.self) {
            try RepositoryLock.acquire(
                in: store, operation: .prune, waiting: 10, refreshSeconds: 60, watchSeconds: 5
            ) { _ in }
        }
        stillThere.update { $0 = false }
        holder.join()
        let lock = try RepositoryLock.acquire(
            in: store, operation: .prune, waiting: 10, refreshSeconds: 60, watchSeconds: 0.5
        ) { _ in }
        #expect(try !store.contains(id))
        lock.release()
    }

    /// A repository that can only be read is restored and verified without a lock.
    @Test func readsWithoutWriting() throws {
        let fixture = try Fixture(seed: 3, keepsTime: true, encrypted: false)
        let id = try fixture.capture(try fixture.disk())
        let repository = try Repository.open(reading: fixture.store, keys: nil)
        let before = fixture.store.contents
        let lock = try repository.lock(.restore)
        #expect(lock.record == nil)
        let isSame =
            try MadeUpDiskCapture.read(try repository.reader(try repository.snapshot(id))) == fixture.expected[id]
        #expect(isSame)
        #expect(try repository.verify(readDataPercent: 100).isWhole)
        #expect(throws: ImageError.self) { try repository.prune(grace: 0) }
        #expect(try repository.prune(grace: 0, dryRun: true).isDryRun)
        #expect(throws: ImageError.self) { try repository.forget([id]) }
        #expect(throws: ImageError.self) { try repository.lock(.capture) }
        #expect(fixture.store.contents == before)
    }
}
