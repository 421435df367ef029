// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

@Suite struct RepositoryVerifyTests {
    /// Changes one bit of a stored content, in the file: in its first byte. One in the middle of a compressed chunk can
    /// be without effect: a match from a distance that has the same bytes.
    private func damage(_ entry: IndexEntry, _ repository: Repository) throws {
        let path = repository.layout.pack(entry.location.pack)
        var bytes = try Files.read(path)
        bytes[Int(entry.location.offset)] ^= 0x10
        try Files.write(bytes, to: path)
    }

    private func entries(_ repository: Repository, _ kind: BlobKind) throws -> [IndexEntry] {
        var result: [IndexEntry] = []
        var cursor = try repository.indexSet().mergedCursor()
        while let hit = try cursor.next() {
            if hit.hit.entry.key.kind == kind { result.append(hit.hit.entry) }
        }
        return result
    }

    private func all(_ repository: Repository) throws -> [IndexEntry] {
        var result: [IndexEntry] = []
        var cursor = try repository.indexSet().mergedCursor()
        while let hit = try cursor.next() { result.append(hit.hit.entry) }
        return result
    }

    @Test(arguments: [false, true]) func damageIsNamedByPlace(encrypted: Bool) throws {
        let fixture = try PruneFixture(encrypted: encrypted)
        let disk = try fixture.disk()
        let first = try fixture.capture(disk)
        var next = disk
        next.header.manifest.started = "2026-01-03T03:04:05Z"
        let second = try fixture.capture(next)
        #expect(first != second)
        let chunk = try #require(disk.chunks.last { $0.kind == .data && $0.region == 1 })
        let content = Array(disk.bytes[Int(chunk.range.lowerBound)..<Int(chunk.range.upperBound)])
        let id = fixture.repository.coding(level: 3, kind: .data).identity.id(of: content)
        let entry = try #require(try all(fixture.repository).first { $0.key == BlobKey(id, .data) })
        try damage(entry, fixture.repository)
        // The structure check does not cover contents.
        let structure = try fixture.repository.verify()
        #expect(structure.isWhole && structure.snapshotCount == 2 && structure.packCount > 0)
        var phases: Set<String> = []
        let report = try fixture.repository.verify(
            readDataPercent: 100, progress: { phases.insert($0.phase.rawValue) })
        #expect(phases == ["indexes", "packs", "snapshots", "contents"])
        #expect(!report.isWhole)
        // Both snapshots report it, at every place of this content.
        for snapshot in [first, second] {
            let problem = report.problems.first {
                $0.snapshot == snapshot && $0.disk?.contains(chunk.range.lowerBound) == true
            }
            #expect(problem?.partition == 1, "\(report.problems)")
            #expect(problem?.description.contains("partition 1, bytes") == true)
            #expect(problem?.what.contains("\(entry.location.pack)") == true)
        }
        // With one snapshot selected, the other is not reported.
        let one = try fixture.repository.verify(readDataPercent: 100, snapshots: [first])
        #expect(!one.isWhole && one.problems.allSatisfy { $0.snapshot == first } && one.snapshotCount == 1)
        // A restore refuses it too.
        #expect(throws: (any Error).self) {
            try Repository.restore(first, at: fixture.path, keys: fixture.keys)
        }
    }

    @Test func aLostPackIsNamedByPlace() throws {
        let fixture = try PruneFixture()
        let disk = try fixture.disk()
        let first = try fixture.capture(disk)
        let next = fixture.changed(disk)
        let second = try fixture.capture(next)
        let pack = try #require(try all(fixture.repository).first).location.pack
        var lost = Set(try all(fixture.repository).filter { $0.location.pack == pack }.map(\.key.id))
        lost.subtract(try all(fixture.repository).filter { $0.location.pack != pack }.map(\.key.id))
        try Files.remove(fixture.repository.layout.pack(pack))
        let report = try Repository.open(LocalStore(fixture.path), keys: nil).verify()
        #expect(!report.isWhole)
        // Exactly the chunks whose contents were there.
        for (id, disk) in [(first, disk), (second, next)] {
            let listed = report.problems.filter { $0.snapshot == id && $0.what.hasPrefix("no pack has the content") }
            if report.problems.contains(where: { $0.snapshot == id && $0.what.contains("the list of chunks") }) {
                continue
            }
            for chunk in disk.chunks where chunk.kind == .data {
                let content = Array(disk.bytes[Int(chunk.range.lowerBound)..<Int(chunk.range.upperBound)])
                let isLost = lost.contains(ContentHash(of: content))
                let isListed = listed.contains { $0.disk?.contains(chunk.range.lowerBound) == true }
                #expect(isLost == isListed)
            }
        }
        #expect(report.problems.contains { $0.snapshot != nil })
        #expect(report.problems.contains { $0.what.contains("is missing") })
    }

    /// Any bit of any file, except those without effect.
    @Test(arguments: [false, true]) func everyFlippedBitIsSeen(encrypted: Bool) throws {
        let fixture = try PruneFixture(encrypted: encrypted)
        let disk = try fixture.disk(byteCount: 400_384)
        try fixture.capture(disk)
        try fixture.capture(fixture.changed(disk))
        let files = try Repository.files(fixture.path).filter { $0.value > 0 }
        let stored = try all(fixture.repository).map(\.location)
        var unseenCount = 0
        for _ in 0..<25 {
            // By length, so that every bit is as likely as any other; but small files are included too.
            let name = try #require(files.keys.sorted().randomElement(using: &fixture.random))
            let path = FilePath("\(fixture.path)/\(name)")
            let bytes = try Files.read(path)
            var flipped = bytes
            let place = Int.random(in: 0..<bytes.count, using: &fixture.random)
            let bit = UInt8.random(in: 0..<8, using: &fixture.random)
            flipped[place] ^= 1 << bit
            try Files.write(flipped, to: path)
            var isSeen = false
            do {
                let repository = try Repository.open(LocalStore(fixture.path), keys: fixture.keys)
                isSeen = !(try repository.verify(readDataPercent: 100).isWhole)
            } catch { isSeen = true }
            if !isSeen {
                // A bit that no zstd decoder checks, inside of stored contents, which stay the same.
                #expect(
                    !encrypted
                        && stored.contains {
                            name.hasSuffix("\($0.pack)")
                                && (0..<Int($0.storedByteCount)).contains(place - Int($0.offset))
                        }, "bit \(bit) of byte \(place) of \(name)")
                try fixture.check("bit \(bit) of byte \(place) of \(name)")
                unseenCount += 1
            }
            try Files.write(bytes, to: path)
        }
        #expect(unseenCount < 5)
        try fixture.check()
    }

    @Test func keyFilesAreLookedAt() throws {
        let fixture = try PruneFixture(encrypted: true)
        try fixture.capture(try fixture.disk(byteCount: 300_032))
        #expect(try fixture.repository.verify().isWhole)
        let folder = fixture.path.appending("keys")
        let file = folder.appending(try #require(Files.names(in: folder).first))
        var bytes = try Files.read(file)
        bytes[bytes.count / 2] ^= 1
        try Files.write(bytes, to: file)
        #expect(try fixture.repository.verify().problemCount >= 1)
        try Files.remove(file)
        #expect(try fixture.repository.verify().problems.contains { $0.what.contains("no key file") })
    }

    /// Damaged contents are removed from the index; the next capture that still has them stores them again, and all
    /// snapshots are intact.
    @Test(arguments: [false, true]) func theNextCaptureHeals(encrypted: Bool) throws {
        let fixture = try PruneFixture(encrypted: encrypted)
        let disk = try fixture.disk()
        try fixture.capture(disk)
        var next = disk
        next.header.manifest.started = "2026-01-03T03:04:05Z"
        try fixture.capture(next)
        let nothing = try fixture.repository.repair()
        #expect(nothing.quarantinedCount == 0 && nothing.found.isWhole)
        let some = try all(fixture.repository)
        for kind in BlobKind.allCases {
            try damage(try #require(some.first { $0.key.kind == kind }), fixture.repository)
        }
        let report = try fixture.repository.repair()
        #expect(report.quarantinedCount == 3 && !report.found.isWhole)
        #expect(try all(fixture.repository).count == some.count - 3)
        #expect(!(try fixture.repository.verify(readDataPercent: 100).isWhole))
        // A second repair does nothing, and prune does not index it again.
        #expect(try fixture.repository.repair().quarantinedCount == 0)
        var again = disk
        again.header.manifest.started = "2026-01-04T03:04:05Z"
        let id = try fixture.capture(again)
        #expect(try fixture.repository.snapshot(id).statistics.newByteCount > 0)
        try fixture.check("after the capture that heals")
        _ = try fixture.repository.prune(grace: 0)
        try fixture.check("after prune")
    }

    /// A pack without its end, and a capture that stored its contents again: reading and prune use the intact copy,
    /// independent of the pack names.
    @Test(arguments: 0..<3) func theWholeCopyIsTaken(round: Int) throws {
        let fixture = try PruneFixture(test: "\(#function) \(round)")
        let disk = try fixture.disk()
        try fixture.capture(disk)
        let packs = try fixture.repository.store.packNames()
        for name in packs {
            let path = fixture.repository.layout.pack(name)
            let bytes = try Files.read(path)
            try Files.write(Array(bytes[..<(bytes.count / 2)]), to: path)
        }
        var again = disk
        again.header.manifest.started = "2026-01-04T03:04:05Z"
        try fixture.capture(again)
        for (id, bytes) in fixture.expected {
            #expect(try Repository.restore(id, at: fixture.path, keys: nil) == bytes)
        }
        _ = try fixture.repository.prune(grace: 0)
        #expect(try Set(fixture.repository.store.packNames()).isDisjoint(with: packs))
        try fixture.check("after prune")
    }

    /// A repository with two concurrent captures of one disk.
    private func everythingStoredTwice() throws -> PruneFixture {
        let fixture = try PruneFixture()
        let disk = try fixture.disk()
        let writers = try (0..<2).map { _ in
            try fixture.repository.writer(header: disk.header, host: "host", disk: "disk", tags: [], level: 3)
        }
        for writer in writers {
            fixture.expected[try #require(try disk.capture(into: writer)).id] = PruneFixture.used(disk)
        }
        return fixture
    }

    /// Two concurrent captures stored the contents twice; either copy may be damaged.
    @Test(arguments: BlobKind.allCases) func theOtherCopyIsRead(kind: BlobKind) throws {
        let fixture = try everythingStoredTwice()
        let key = try #require(try entries(fixture.repository, kind).first).key
        let places = try all(fixture.repository).filter { $0.key == key }
        #expect(places.count == 2)
        var warningCount = 0
        for place in places {
            try damage(place, fixture.repository)
            let warnings = Monitor<[String]>([])
            let repository = try Repository.open(LocalStore(fixture.path), keys: nil) { text in
                warnings.update { $0.append(text) }
            }
            for (id, bytes) in fixture.expected {
                let snapshot = try repository.snapshot(id)
                #expect(try MadeUpDiskCapture.read(try repository.reader(snapshot)) == bytes)
                // The input of `copy`.
                let contents = try ImageContents(try repository.reader(snapshot))
                var copied = [UInt8](repeating: 0, count: bytes.count)
                try copied.withUnsafeMutableBytes { try contents.read(into: $0, at: 0) }
                try contents.readToEnd()
                #expect(copied == bytes)
            }
            // One of the two is read first: its damage is reported once.
            let said = warnings.update { $0 }
            #expect(said.count <= 1)
            warningCount += said.count
            #expect(said.allSatisfy { $0.contains("\(place.location.pack)") && $0.contains("--repair") }, "\(said)")
            // Flipped again: the bit is restored.
            try damage(place, fixture.repository)
        }
        #expect(warningCount == 1)
        // Both are damaged: then it is an error.
        for place in places { try damage(place, fixture.repository) }
        for id in fixture.expected.keys {
            #expect(throws: (any Error).self) { try Repository.restore(id, at: fixture.path, keys: nil) }
        }
    }

    /// A pack with only duplicated contents is removed, except while a copy to be kept is damaged.
    @Test(arguments: BlobKind.allCases) func theGoodCopyIsNotPruned(kind: BlobKind) throws {
        let fixture = try everythingStoredTwice()
        let key = try #require(try entries(fixture.repository, kind).first).key
        let places = try all(fixture.repository).filter { $0.key == key }
        // The pack with the smaller name is chosen.
        let chosen = try #require(places.min { $0.location.pack < $1.location.pack })
        try damage(chosen, fixture.repository)
        for _ in 0..<2 {
            let report = try fixture.repository.prune(grace: 0)
            #expect(report.removed.packCount == 0 && report.waiting.packCount == 1 && fixture.packCount == 2)
            #expect(report.notes.contains { $0.contains("--repair") }, "\(report.notes)")
        }
        for (id, bytes) in fixture.expected {
            #expect(try Repository.restore(id, at: fixture.path, keys: nil) == bytes)
        }
        // Repair sets the damaged one aside: the intact one is then needed.
        _ = try fixture.repository.repair()
        #expect(try fixture.repository.prune(grace: 0).unmarked.packCount == 1)
        _ = try fixture.repository.prune(grace: 0)
        try fixture.check("after repair and prune")
    }

    /// Without damage, one of two equal packs is removed.
    @Test func aSecondCopyIsPruned() throws {
        let fixture = try everythingStoredTwice()
        #expect(try fixture.repository.prune(grace: 0).removed.packCount == 1 && fixture.packCount == 1)
        try fixture.check()
    }

    /// Contents removed by repair are not indexed again as part of an unindexed pack.
    @Test func quarantineLasts() throws {
        let fixture = try PruneFixture()
        let disk = try fixture.disk(byteCount: 400_384)
        try fixture.capture(disk)
        let before = try all(fixture.repository)
        for entry in before { try damage(entry, fixture.repository) }
        #expect(try fixture.repository.repair().quarantinedCount == before.count)
        let second = try fixture.repository.repair()
        #expect(second.quarantinedCount == 0 && second.adopted.packCount == 0)
        #expect(try all(fixture.repository).isEmpty)
        var again = disk
        again.header.manifest.started = "2026-01-04T03:04:05Z"
        try fixture.capture(again)
        _ = try fixture.repository.prune(grace: 0)
        try fixture.check("after prune")
    }

    /// While contents are missing, prune removes nothing.
    @Test func nothingGoesWhileContentsAreMissing() throws {
        let fixture = try PruneFixture()
        let first = try fixture.capture(try fixture.disk())
        let old = Set(try all(fixture.repository))
        let disk = try fixture.disk()
        try fixture.capture(disk)
        let lost = try #require(
            try entries(fixture.repository, .data).first { entry in !old.contains { $0.key == entry.key } })
        try damage(lost, fixture.repository)
        #expect(try fixture.repository.repair().quarantinedCount == 1)
        try fixture.forget(first)
        let before = try fixture.repository.store.packNames()
        let report = try fixture.repository.prune(grace: 0)
        #expect(report.missingCount == 1 && report.removed.packCount == 0 && report.repacked.packCount == 0)
        #expect(try fixture.repository.store.packNames() == before)
        var again = disk
        again.header.manifest.started = "2026-01-04T03:04:05Z"
        try fixture.capture(again)
        #expect(try fixture.repository.prune(grace: 0).removed.packCount > 0)
        try fixture.check("after the capture that heals")
    }

    @Test func aFailedWriteIsNotPublished() throws {
        let fixture = try PruneFixture()
        let name = StoreName.random()
        let output = try fixture.repository.store.begin(.index(name))
        try output.write([1, 2, 3])
        let nowhere = UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: 1), count: 1 << 12)
        #expect(throws: ImageError.self) { try output.write(nowhere) }
        #expect(throws: ImageError.self) { try output.write([4]) }
        #expect(throws: ImageError.self) { try output.commit() }
        #expect(!Files.exists(fixture.repository.layout.index(name)))
        #expect(Files.names(in: fixture.path.appending("tmp")).isEmpty)
    }

    @Test func aFolderThatCannotBeListedIsNotEmpty() throws {
        let fixture = try PruneFixture()
        let file = fixture.path.appending("repository.json")
        #expect(throws: SystemCallError.self) { try Files.allNames(in: file) }
        #expect(throws: SystemCallError.self) { try Files.allNames(in: fixture.path.appending("nothing")) }
        let store = StoreAccess(LocalStore(file))
        for kind in ObjectKind.allCases where kind != .configuration && kind != .forgetting {
            #expect(throws: ImageError.self, "\(kind)") { try store.names(kind) }
        }
    }

    @Test func aShareIsAShare() throws {
        let fixture = try PruneFixture()
        let disk = try fixture.disk()
        for _ in 0..<8 { try fixture.capture(try fixture.disk(byteCount: 300_032)) }
        try fixture.capture(disk)
        let all = try fixture.repository.verify(readDataPercent: 100)
        #expect(all.readByteCount > 0 && all.readByteCount <= all.storedByteCount)
        let none = try fixture.repository.verify(readDataPercent: 0)
        #expect(none.readCount == 0 && none.isWhole)
        let some = try fixture.repository.verify(readDataPercent: 30, seed: 1)
        let same = try fixture.repository.verify(readDataPercent: 30, seed: 1)
        #expect(some.readByteCount == same.readByteCount && some.seed == 1)
        #expect(some.readCount > 0 && some.readCount < all.readCount)
        // Repeated partial checks eventually cover everything.
        let entry = try #require(try entries(fixture.repository, .data).first)
        try damage(entry, fixture.repository)
        var isFound = false
        for seed in 0..<200 where !isFound {
            isFound = !(try fixture.repository.verify(readDataPercent: 10, seed: UInt64(seed)).isWhole)
        }
        #expect(isFound)
    }

    @Test func brokenFilesAreReportedTogether() throws {
        let fixture = try PruneFixture()
        let first = try fixture.capture(try fixture.disk())
        for _ in 0..<2 { try fixture.capture(try fixture.disk()) }
        // A snapshot and a pack's end.
        let snapshot = fixture.repository.layout.snapshot(first)
        try Files.write(Array(try Files.read(snapshot).dropLast(3)), to: snapshot)
        let packs = try fixture.repository.store.packNames()
        let pack = fixture.repository.layout.pack(packs[0])
        try Files.write(Array(try Files.read(pack).dropLast(100)), to: pack)
        let report = try fixture.repository.verify(readDataPercent: 100, snapshots: nil)
        #expect(report.problems.contains { $0.snapshot == first })
        #expect(report.problems.contains { $0.what.contains(packs[0].description) })
        #expect(report.snapshotCount == 2)
        #expect(try fixture.repository.verify(snapshots: [first]).problems.count >= 1)
        let nobody = ContentHash(of: [1])
        let missing = try fixture.repository.verify(snapshots: [nobody])
        #expect(missing.problems.contains { $0.snapshot == nobody } && missing.snapshotCount == 0)
    }
}
