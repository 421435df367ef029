// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import Glibc
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

/// Interrupted captures, concurrent captures, and captures in a repository in use.
@Suite struct RepositoryWriterTests {
    static func repository(
        _ scratch: ScratchFolder, keys: MasterKeys? = nil, name: String = "r"
    ) throws -> Repository {
        try Repository.create(
            in: LocalStore(scratch.path.appending(name)), chunkByteCount: MadeUpDiskCapture.chunkByteCount, keys: keys)
    }

    static func writer(
        _ repository: Repository, _ capture: MadeUpDiskCapture,
        limits: SnapshotWriter.SpillLimits = SnapshotWriter.SpillLimits(),
        mayPublish: @escaping @Sendable () throws -> Void = {}
    ) throws -> SnapshotWriter {
        try SnapshotWriter(
            repository, header: capture.header, host: "host", disk: "disk", tags: [], level: 3, limits: limits,
            mayPublish: mayPublish)
    }

    /// Fails unless a snapshot restores the bytes of its capture.
    static func expectWhole(_ repository: Repository, _ id: ContentHash, _ capture: MadeUpDiskCapture) throws {
        let restored = try Repository.restore(id, at: repository.path, keys: repository.keys)
        #expect(restored == capture.bytes)
    }

    @Test(arguments: [false, true]) func aCaptureGoesOnFromWhatAnotherStored(isEncrypted: Bool) throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        let repository = try Self.repository(scratch, keys: isEncrypted ? .random() : nil)
        let capture = try MadeUpDiskCapture(&random)
        let count = capture.chunks.count
        func distinct(_ chunks: ArraySlice<MadeUpDiskCapture.Chunk>) -> Set<[UInt8]> {
            Set(
                chunks.filter { $0.kind == .data }.map {
                    Array(capture.bytes[Int($0.range.lowerBound)..<Int($0.range.upperBound)])
                })
        }
        let half = distinct(capture.chunks[..<(count / 2)])
        let rest = distinct(capture.chunks[(count / 2)...]).subtracting(half)
        let most = distinct(capture.chunks[..<(count * 3 / 4)])
        // Stopped and abandoned regularly: all appended contents are kept.
        let first = try Self.writer(repository, capture)
        try capture.capture(into: first, stoppingAfter: count / 2)
        first.abandon()
        first.abandon()
        #expect(try Repository.files(repository.path.appending("tmp")).isEmpty)
        #expect(try repository.snapshotIDs().isEmpty)
        // Killed with a full table (of 16 entries): indexed contents are kept.
        let second = try Self.writer(repository, capture, limits: .init(entryCount: 4))
        try capture.capture(into: second, stoppingAfter: count * 3 / 4)
        let summary = try capture.capture(into: repository)
        func sum(_ contents: Set<[UInt8]>) -> UInt64 { contents.reduce(0) { $0 + UInt64($1.count) } }
        #expect(summary.newByteCount <= sum(rest), "seed \(seed)")
        // Of those, bytes in use are counted: less than the contents are long.
        #expect(summary.newByteCount > 0 || rest.subtracting(most).isEmpty, "seed \(seed)")
        try Self.expectWhole(repository, summary.id, capture)
        withExtendedLifetime(second) {}
    }

    @Test func filesOfDeadProcessesGo() throws {
        let scratch = try ScratchFolder()
        let repository = try Self.repository(scratch)
        var random = SeededGenerator(seed: 5)
        let capture = try MadeUpDiskCapture(&random)
        let folder = repository.path.appending("tmp")
        let now = SystemFacts.unixSeconds()
        let boot = WriterToken.bootToken
        let stale = [
            "x.\(boot)-999999999-5-\(now)", "x.\(boot)-\(SystemFacts.processID)-1-\(now)", "x.00000000-1-1-1000",
        ]
        let alive = ["x.\(WriterToken.own)", "x.00000000-1-1-\(now)", "notes.txt", "x.00000000-1-1-\(Int64.min)"]
        for name in stale + alive { try overwrite(folder.appending(name), [1, 2, 3]) }
        // Begun long ago by the clock of another machine, but just written to by the store's.
        let foreign = "x.00000000-1-1-2000"
        try overwrite(folder.appending(foreign), [1, 2, 3])
        var times = [timespec(), timespec()]
        times[0].tv_sec = Int(now) - 25 * 3600
        times[1] = times[0]
        #expect(utimensat(AT_FDCWD, folder.appending("x.00000000-1-1-1000").string, &times, 0) == 0)
        #expect(LocalStore(repository.path).removeLeftovers() == UInt64(3 * stale.count))
        #expect(Set(Files.names(in: folder)) == Set(alive + [foreign]))
        _ = try capture.capture(into: repository)
        #expect(Set(Files.names(in: folder)) == Set(alive + [foreign]))
    }

    @Test func aLongCaptureKeepsFewIndexFiles() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        let repository = try Self.repository(scratch)
        let capture = try MadeUpDiskCapture(&random, partitionByteCount: 20_000_000)
        let writer = try Self.writer(repository, capture, limits: .init(byteCount: 1, filesPerLevel: 3))
        let id = try #require(try capture.capture(into: writer)).id
        let indexes = try repository.indexSet()
        #expect(indexes.files.count <= 12, "seed \(seed)")
        #expect(indexes.entryCount > 50)
        try Self.expectWhole(repository, id, capture)
        // Under the lock of maintenance there are fewer still.
        let again = try Self.writer(repository, capture, limits: .init(byteCount: 1, filesPerLevel: 1000))
        withExtendedLifetime(again) {}
        var other = SeededGenerator(seed: seed &+ 1)
        let changed = try MadeUpDiskCapture(&other, partitionByteCount: 5_000_000)
        let third = try Self.writer(repository, changed, limits: .init(byteCount: 1, filesPerLevel: 1000))
        let thirdID = try #require(try changed.capture(into: third)).id
        let many = try repository.indexSet()
        #expect(many.files.count > 8)
        #expect(try repository.mergeSmallIndexes() > 1)
        let few = try repository.indexSet()
        #expect(few.files.count <= 8)
        #expect(few.entryCount <= many.entryCount)
        #expect(try repository.mergeSmallIndexes() == 0)
        try Self.expectWhole(repository, id, capture)
        try Self.expectWhole(repository, thirdID, changed)
    }

    @Test func twoWritersAtOnce() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        let repository = try Self.repository(scratch)
        let captures = [try MadeUpDiskCapture(&random), try MadeUpDiskCapture(&random, partitionByteCount: 3_000_000)]
        let results = Monitor<[Int: ContentHash]>([:])
        var threads: [WorkerThread] = []
        for index in 0..<4 {
            threads.append(
                try WorkerThread {
                    do {
                        let capture = captures[index % 2]
                        let own = try Repository.open(LocalStore(repository.path), keys: nil)
                        let writer = try Self.writer(
                            own, capture, limits: .init(byteCount: 200_000, filesPerLevel: 3))
                        let id = try #require(try capture.capture(into: writer)).id
                        _ = try own.mergeSmallIndexes()
                        results.update { $0[index] = id }
                    } catch { Issue.record(error) }
                })
        }
        for thread in threads { thread.join() }
        let ids = results.update { $0 }
        #expect(ids.count == 4)
        for (index, id) in ids { try Self.expectWhole(repository, id, captures[index % 2]) }
    }

    @Test func equalChunksInFlightAreStoredOnce() throws {
        let scratch = try ScratchFolder()
        let repository = try Self.repository(scratch)
        var random = SeededGenerator(seed: 5)
        var capture = try MadeUpDiskCapture(&random, partitionByteCount: 64 << 14)
        capture.header.maps[1] = .whole(byteCount: 64 << 14)
        capture.header.manifest.regions[1].usedByteCount = 64 << 14
        let content = [UInt8](repeating: 7, count: 64 << 10)
        for start in stride(from: 1 << 20, to: (1 << 20) + 64 << 14, by: 64 << 10) {
            guard start + content.count <= (1 << 20) + (64 << 14) else { break }
            capture.bytes.replaceSubrange(start..<start + content.count, with: content)
        }
        // A sink that reports no held chunks, as seen by a worker that asks before another worker's chunk is appended.
        final class Forgetful: ImageWriter {
            let inner: SnapshotWriter
            init(_ inner: SnapshotWriter) { self.inner = inner }
            var coding: ChunkCoding { inner.coding }
            func holds(_ id: ContentHash) throws -> Bool { false }
            func append(_ record: ChunkRecord, stored: UnsafeRawBufferPointer?) throws {
                try inner.append(record, stored: stored)
            }
            func appendRun(_ kind: RangeKind, region: Int, range: ByteRange) throws {
                try inner.appendRun(kind, region: region, range: range)
            }
            func finish(_ facts: LateFacts) throws -> ImageSummary { try inner.finish(facts) }
        }
        let summary = try #require(try capture.capture(into: Forgetful(try Self.writer(repository, capture))))
        #expect(summary.deduplicatedByteCount == 15 * 64 << 10)
        try Self.expectWhole(repository, summary.id, capture)
    }

    @Test func whatIsMarkedOrGoneIsStoredAnew() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        let repository = try Self.repository(scratch)
        let capture = try MadeUpDiskCapture(&random)
        let first = try capture.capture(into: repository)
        let packs = try repository.store.packNames()
        for pack in packs { try overwrite(repository.layout.marks.appending(pack.description), []) }
        let second = try capture.capture(into: repository)
        #expect(second.newByteCount == first.newByteCount, "seed \(seed)")
        for pack in packs { try Files.remove(repository.layout.pack(pack)) }
        try Self.expectWhole(repository, second.id, capture)
        // The packs of the second are gone too: the third capture repairs both.
        for pack in try repository.store.packNames() { try Files.remove(repository.layout.pack(pack)) }
        #expect(throws: ImageError.self) { try Self.expectWhole(repository, second.id, capture) }
        let third = try capture.capture(into: repository)
        #expect(third.newByteCount == first.newByteCount, "seed \(seed)")
        for id in [first.id, second.id, third.id] { try Self.expectWhole(repository, id, capture) }
    }

    @Test func nothingIsPublishedWithoutLeave() throws {
        struct Refused: Error {}
        let scratch = try ScratchFolder()
        let repository = try Self.repository(scratch)
        var random = SeededGenerator(seed: 5)
        let capture = try MadeUpDiskCapture(&random)
        let before = try Repository.files(repository.path)
        let writer = try Self.writer(repository, capture) { throw Refused() }
        #expect(throws: Refused.self) { try capture.capture(into: writer) }
        writer.abandon()
        #expect(try Repository.files(repository.path) == before)
        #expect(throws: (any Error).self) { try capture.capture(into: writer) }
    }

    @Test func recordsOutOfPlaceAreRefused() throws {
        let scratch = try ScratchFolder()
        let repository = try Self.repository(scratch)
        var random = SeededGenerator(seed: 5)
        let capture = try MadeUpDiskCapture(&random)
        let writer = try Self.writer(repository, capture)
        #expect(throws: ParsingError.self) { try writer.appendRun(.zero, region: 1, range: 0..<65536) }
        #expect(throws: ParsingError.self) { try writer.appendRun(.zero, region: 0, range: 0..<65537) }
        #expect(throws: ParsingError.self) { try writer.appendRun(.zero, region: 0, range: 65536..<131072) }
        #expect(throws: ParsingError.self) { try writer.appendRun(.data, region: 0, range: 0..<65536) }
        #expect(throws: ParsingError.self) { try writer.finish(LateFacts(ended: "")) }
        var header = capture.header
        header.manifest.chunkByteCount = 128 << 10
        #expect(throws: ImageError.self) {
            try repository.writer(header: header, host: "", disk: "", tags: [], level: 3)
        }
    }

    /// A reader that listed the indexes before all contents were moved to other packs.
    @Test func aReaderFollowsWhatIsMoved() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        let repository = try Self.repository(scratch)
        let capture = try MadeUpDiskCapture(&random)
        let id = try capture.capture(into: repository).id
        let reader = try repository.reader(try repository.snapshot(id))
        let old = try repository.indexSet()
        let packs = try repository.store.packNames()
        let pack = try PackWriter(repository.store, repository.secrets)
        var cursor = try old.mergedCursor()
        var moved: [IndexEntry] = []
        while let hit = try cursor.next() {
            let entry = hit.hit.entry
            let file = try PackFile(entry.location.pack, repository.store, repository.secrets)
            let location = try file.stored(entry.location).withUnsafeBytes {
                try pack.append(entry.key, contentByteCount: Int(entry.location.contentByteCount), stored: $0)
            }
            moved.append(IndexEntry(key: entry.key, location: location))
        }
        try pack.finish()
        try pack.commit()
        let writer = try IndexWriter(
            repository.store, repository.secrets, expectedEntryCount: UInt64(moved.count))
        for entry in moved { try writer.add(entry) }
        _ = try writer.finish()
        try repository.removeIndexes(old.files.map(\.name))
        for name in packs { try Files.remove(repository.layout.pack(name)) }
        // It may continue with an open pack.
        #expect(try MadeUpDiskCapture.read(reader) == capture.bytes, "seed \(seed)")
        try Self.expectWhole(repository, id, capture)
    }
}
