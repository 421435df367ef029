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

@Suite struct PruneTests {
    static let day = 24.0 * 3600

    @Test(arguments: [false, true]) func whatIsForgottenGoesAfterTheGraceTime(encrypted: Bool) throws {
        let fixture = try PruneFixture(encrypted: encrypted)
        let first = try fixture.capture(try fixture.disk())
        try fixture.capture(try fixture.disk())
        let nothing = try fixture.repository.prune()
        #expect(nothing.removed.packCount == 0 && nothing.waiting.packCount == 0 && nothing.snapshotCount == 2)
        #expect(nothing.neededByteCount > 0)

        try fixture.forget(first)
        let dry = try fixture.repository.prune(dryRun: true)
        #expect(dry.isDryRun && dry.waiting.packCount == 1 && dry.removed.packCount == 0)
        #expect(Files.names(in: fixture.path.appending("marks")) == ["forgotten"])
        let marking = try fixture.repository.prune()
        #expect(marking.newlyMarked == dry.newlyMarked && marking.newlyMarked.packCount == 1)
        // Pieces of lists and maps that both had were copied; nothing is removed.
        let before = fixture.packByteCount
        #expect(before >= Int(marking.present.byteCount))
        try fixture.check()
        // A day later, minus a minute.
        try fixture.age(Int(Self.day) - 60)
        let early = try fixture.repository.prune()
        #expect(early.waiting.packCount == 1 && early.newlyMarked.packCount == 0)
        try fixture.age(61)
        let rehearsal = try fixture.repository.prune(dryRun: true)
        #expect(rehearsal.removed == marking.newlyMarked)
        let late = try fixture.repository.prune()
        #expect(late.removed == marking.newlyMarked && late.waiting.packCount == 0)
        #expect(fixture.packByteCount == before - Int(late.removed.byteCount))
        #expect(Files.names(in: fixture.path.appending("marks")) == ["forgotten"])
        try fixture.check()
        let again = try fixture.repository.prune()
        #expect(again.removed.packCount == 0 && again.waiting.packCount == 0 && again.unmarked.packCount == 0)

        // The forgotten contents are stored again when captured again.
        try fixture.capture(try fixture.disk())
        try fixture.check()
    }

    @Test func aLastSnapshotCanGoToo() throws {
        let fixture = try PruneFixture()
        let disk = try fixture.disk()
        try fixture.forget(try fixture.capture(disk))
        #expect(throws: ImageError.self) { try fixture.repository.prune(grace: 0) }
        let report = try fixture.repository.prune(grace: 0, confirmedMissing: 0)
        #expect(report.removed.packCount == 1 && fixture.packCount == 0)
        #expect(Files.names(in: fixture.path.appending("indexes")).isEmpty)
        try fixture.check()
        try fixture.capture(disk)
        try fixture.check()
    }

    /// The next capture may reuse its leftovers; contents without a reference now may be needed by a snapshot whose
    /// file is temporarily missing.
    @Test func whatADeadCaptureLeftHasTheGraceTime() throws {
        let fixture = try PruneFixture()
        try fixture.capture(try fixture.disk())
        let before = fixture.packByteCount
        try fixture.abandonCapture()
        #expect(fixture.packByteCount > before)
        let marking = try fixture.repository.prune()
        #expect(marking.removed.packCount == 0 && marking.newlyMarked.packCount == 1)
        try fixture.age(Int(Self.day) + 1)
        #expect(try fixture.repository.prune().removed.packCount == 1 && fixture.packByteCount == before)
        try fixture.check()
    }

    @Test func marksAreTakenBack() throws {
        let fixture = try PruneFixture()
        let disk = try fixture.disk()
        let id = try fixture.capture(disk)
        let snapshot = try Files.read(fixture.repository.layout.snapshot(id))
        try fixture.forget(id)
        #expect(try fixture.repository.prune(confirmedMissing: 0).newlyMarked.packCount == 1)
        // A capture from before the mark ends now.
        try Files.write(snapshot, to: fixture.repository.layout.snapshot(id))
        fixture.expected[id] = PruneFixture.used(disk)
        let report = try fixture.repository.prune(grace: 0)
        #expect(report.unmarked.packCount == 1 && report.removed.packCount == 0)
        #expect(try fixture.repository.markedPacks().isEmpty)
        try fixture.check()
    }

    @Test func aCaptureAfterTheMarkDoesNotRelyOnIt() throws {
        let fixture = try PruneFixture()
        let disk = try fixture.disk()
        try fixture.forget(try fixture.capture(disk))
        #expect(try fixture.repository.prune(confirmedMissing: 0).newlyMarked.packCount == 1)
        try fixture.capture(disk)
        try fixture.age(2 * Int(Self.day))
        let report = try fixture.repository.prune()
        #expect(report.removed.packCount == 1)
        try fixture.check()
    }

    @Test func aCaptureFromBeforeTheMarkKeepsIt() throws {
        let fixture = try PruneFixture()
        let disk = try fixture.disk()
        let old = try fixture.capture(disk)
        let lock = try RepositoryLock.acquire(in: LocalStore(fixture.path), operation: .capture)
        let writer = try fixture.repository.writer(
            header: disk.header, host: "other", disk: "disk", tags: [], level: 3)
        try fixture.forget(old)
        try fixture.age(2 * Int(Self.day))
        // The capture has looked up contents and not finished: they are kept regardless of mark and grace time.
        let marking = try fixture.repository.prune(grace: 0, confirmedMissing: 0)
        #expect(marking.newlyMarked.packCount == 1 && marking.removed.packCount == 0)
        try fixture.age(2 * Int(Self.day))
        #expect(try fixture.repository.prune(grace: 0, confirmedMissing: 0).removed.packCount == 0)
        let summary = try #require(try disk.capture(into: writer))
        #expect(summary.newByteCount == 0)
        fixture.expected[summary.id] = PruneFixture.used(disk)
        lock.release()
        let report = try fixture.repository.prune(grace: 0)
        #expect(report.unmarked.packCount == 1 && report.removed.packCount == 0)
        try fixture.check()
    }

    /// The capture begins and ends between prune's list of snapshots and its marks.
    @Test func aQuickCaptureWhilePruneWorks() throws {
        let fixture = try PruneFixture()
        let disk = try fixture.disk()
        try fixture.forget(try fixture.capture(disk))
        try fixture.age(2 * Int(Self.day))
        let report = try fixture.repository.prune(
            grace: 0, confirmedMissing: 0, dryRun: false, waiting: 0, note: { _ in }
        ) { (step) throws(ImageError) in
            guard step == .referenced else { return }
            do { try fixture.capture(disk) } catch { Issue.record(error) }
        }
        #expect(report.removed.packCount == 0 && report.newlyMarked.packCount == 1)
        try fixture.check()
        #expect(try fixture.repository.prune(grace: 0).unmarked.packCount == 1)
        try fixture.check()
    }

    @Test func readersWithoutALockHaveTheGraceTime() throws {
        let fixture = try PruneFixture()
        let disk = try fixture.disk()
        let id = try fixture.capture(disk)
        let reader = try fixture.repository.reader(try fixture.repository.snapshot(id))
        try fixture.forget(id)
        _ = try fixture.repository.prune(confirmedMissing: 0)
        try fixture.age(Int(Self.day) - 60)
        _ = try fixture.repository.prune(confirmedMissing: 0)
        #expect(try MadeUpDiskCapture.read(reader) == PruneFixture.used(disk))
    }

    @Test(arguments: [false, true]) func mostlyUnneededPacksAreCopied(encrypted: Bool) throws {
        let fixture = try PruneFixture(encrypted: encrypted)
        let disk = try fixture.disk()
        let old = try fixture.capture(disk)
        // Keeps half of the data; the other half is new.
        var next = disk
        next.header.manifest.started = "2026-01-03T03:04:05Z"
        for (number, chunk) in disk.chunks.filter({ $0.kind == .data }).enumerated() where number % 2 == 0 {
            next.bytes[Int(chunk.range.lowerBound)] ^= 0xFF
        }
        let id = try fixture.capture(next)
        let reader = try fixture.repository.reader(try fixture.repository.snapshot(id))
        try fixture.forget(old)
        let rehearsal = try fixture.repository.prune(dryRun: true)
        let report = try fixture.repository.prune()
        #expect(report.repacked.packCount == 1 && report.repacked == rehearsal.repacked)
        #expect(report.copiedByteCount == rehearsal.copiedByteCount && report.copiedByteCount > 0)
        #expect(report.waiting.packCount == 1 && report.removed.packCount == 0)
        try fixture.check()
        // After the copy, there is nothing left to copy.
        let second = try fixture.repository.prune()
        #expect(second.repacked.packCount == 0 && second.waiting == report.waiting)
        try fixture.age(2 * Int(Self.day))
        let before = fixture.packByteCount
        #expect(try fixture.repository.prune().removed == report.waiting)
        #expect(fixture.packByteCount == before - Int(report.waiting.byteCount))
        try fixture.check()
        // A reader with the old index lists the indexes again.
        #expect(try MadeUpDiskCapture.read(reader) == PruneFixture.used(next))
        for _ in 0..<3 {
            let quiet = try fixture.repository.prune(grace: 0)
            #expect(quiet.repacked.packCount == 0 && quiet.removed.packCount == 0 && quiet.waiting.packCount == 0)
        }
    }

    /// Prune dies after each of its steps, in a repository with work for all of them.
    @Test(arguments: PruneStep.allCases) func diesAnywhere(step: PruneStep) throws {
        // Steps before and after a removal are tried with and without keys.
        let encrypted = [.adopted, .batched, .unindexed].contains(step)
        let fixture = try PruneFixture(encrypted: encrypted)
        let disk = try fixture.disk()
        let old = try fixture.capture(disk)
        try fixture.capture(fixture.changed(disk))
        let gone = try fixture.capture(try fixture.disk())
        try fixture.forget(gone)
        _ = try fixture.repository.prune()
        try fixture.forget(old)
        try fixture.age(2 * Int(Self.day))
        // Also a pack in no index.
        let another = try fixture.disk()
        let writer = try fixture.repository.writer(
            header: another.header, host: "host", disk: "disk", tags: [], level: 3)
        try another.capture(into: writer, stoppingAfter: another.chunks.count / 2)
        let indexes = Set(try fixture.repository.store.indexNames())
        writer.abandon()
        for name in try fixture.repository.store.indexNames() where !indexes.contains(name) {
            try Files.remove(fixture.repository.layout.index(name))
        }
        var wasReached = false
        #expect(throws: ImageError.self) {
            _ = try fixture.repository.prune(grace: 0, dryRun: false, waiting: 0, note: { _ in }) {
                (reached) throws(ImageError) in
                guard reached == step else { return }
                wasReached = true
                throw .busy("died at \(step)")
            }
        }
        #expect(wasReached)
        try fixture.check("after \(step)")
        try fixture.capture(disk, host: "after")
        try fixture.check("after \(step) and a capture")
        _ = try fixture.repository.prune(grace: 0)
        try fixture.check("after \(step) and another prune")
        _ = try fixture.repository.prune(grace: 0)
        let quiet = try fixture.repository.prune(grace: 0)
        #expect(quiet.removed.packCount == 0 && quiet.waiting.packCount == 0 && quiet.adopted.packCount == 0)
        #expect(quiet.repacked.packCount == 0 && quiet.newlyMarked.packCount == 0)
        #expect(try fixture.repository.markedPacks().isEmpty)
        try fixture.check("at last")
    }

    /// Concurrent captures, prunes and forgets.
    @Test func writersAndPrunersAtOnce() throws {
        let fixture = try PruneFixture()
        let base = try fixture.disk()
        let disks = (0..<6).map { _ in fixture.changed(base) }
        let path = fixture.path
        let isOver = Monitor(false)
        let removed = Monitor(0)
        let pruner = try WorkerThread {
            guard let repository = try? Repository.open(LocalStore(path), keys: nil) else { return }
            while !isOver.update({ $0 }) {
                do {
                    // Sometimes there is neither a snapshot nor a running capture.
                    let report = try repository.prune(grace: 0, confirmedMissing: 0, waiting: 10)
                    removed.update { $0 += report.removed.packCount + report.repacked.packCount }
                } catch { Issue.record(error) }
            }
        }
        let kept = Monitor<[ContentHash: [UInt8]]>([:])
        let writers = try (0..<2).map { number in
            try WorkerThread {
                do {
                    let repository = try Repository.open(LocalStore(path), keys: nil)
                    for round in 0..<9 {
                        var disk = disks[(number * 3 + round) % disks.count]
                        disk.header.manifest.note = "\(number) \(round)"
                        let lock = try RepositoryLock.acquire(in: LocalStore(path), operation: .capture)
                        let writer = try repository.writer(
                            header: disk.header, host: "host \(number)", disk: "disk", tags: [], level: 1,
                            mayPublish: { try lock.confirm() })
                        let summary = try #require(try disk.capture(into: writer))
                        lock.release()
                        let restored = try Repository.restore(summary.id, at: path, keys: nil)
                        #expect(restored == PruneFixture.used(disk))
                        if round % 3 == 2 {
                            kept.update { $0[summary.id] = PruneFixture.used(disk) }
                        } else {
                            try repository.forget([summary.id])
                        }
                    }
                } catch { Issue.record(error) }
            }
        }
        for writer in writers { writer.join() }
        isOver.update { $0 = true }
        pruner.join()
        print("packs removed or copied meanwhile: \(removed.update { $0 })")
        fixture.expected = kept.update { $0 }
        #expect(fixture.expected.count == 6)
        try fixture.check()
        _ = try fixture.repository.prune(grace: 0)
        _ = try fixture.repository.prune(grace: 0)
        try fixture.check()
    }

    /// The first capture is running: prune does nothing, and is not refused.
    @Test func besideTheFirstCapture() throws {
        let fixture = try PruneFixture()
        let disk = try fixture.disk()
        let lock = try RepositoryLock.acquire(in: LocalStore(fixture.path), operation: .capture)
        let writer = try fixture.repository.writer(
            header: disk.header, host: "host", disk: "disk", tags: [], level: 3)
        try disk.capture(into: writer, stoppingAfter: disk.chunks.count / 2)
        writer.abandon()
        let before = try Repository.files(fixture.path)
        let report = try fixture.repository.prune(grace: 0)
        #expect(report.removed.packCount == 0 && report.waiting.packCount == 0)
        #expect(try Repository.files(fixture.path) == before)
        lock.release()
        #expect(throws: ImageError.self) { try fixture.repository.prune(grace: 0) }
    }

    @Test func nothingGoesWhereASnapshotCannotBeRead() throws {
        let fixture = try PruneFixture()
        let first = try fixture.capture(try fixture.disk())
        let second = try fixture.capture(try fixture.disk())
        try fixture.forget(second)
        let path = fixture.repository.layout.snapshot(first)
        let bytes = try Files.read(path)
        var broken = bytes
        broken[bytes.count / 2] ^= 1
        try Files.write(broken, to: path)
        let before = fixture.packCount
        #expect(throws: ImageError.self) { try fixture.repository.prune(grace: 0) }
        #expect(fixture.packCount == before && Files.names(in: fixture.path.appending("locks")).isEmpty)
        #expect(try fixture.repository.markedPacks().isEmpty)
        try Files.write(bytes, to: path)
        #expect(try fixture.repository.prune(grace: 0).removed.packCount == 1)
        try fixture.check()
    }

    @Test func lostIndexesAreMadeAnew() throws {
        let fixture = try PruneFixture()
        let disk = try fixture.disk()
        try fixture.capture(disk)
        try fixture.capture(fixture.changed(disk))
        let names = try fixture.repository.store.indexNames()
        #expect(names.count == 2)
        // One index is missing, one is damaged.
        try Files.remove(fixture.repository.layout.index(names[0]))
        var bytes = try Files.read(fixture.repository.layout.index(names[1]))
        bytes[RepositoryFormat.pageByteCount + 100] ^= 4
        try Files.write(bytes, to: fixture.repository.layout.index(names[1]))
        let repository = try Repository.open(LocalStore(fixture.path), keys: nil)
        let damaged = try repository.verify()
        #expect(!damaged.isWhole)
        let report = try repository.prune(grace: 0)
        #expect(report.adopted.packCount == 2 && report.removed.packCount == 0 && report.missingCount == 0)
        #expect(try repository.store.indexNames().count == 1)
        let healed = try Repository.open(LocalStore(fixture.path), keys: nil).verify(readDataPercent: 100)
        #expect(healed.isWhole, "\(healed.problems)")
        for (id, expected) in fixture.expected {
            #expect(try Repository.restore(id, at: fixture.path, keys: nil) == expected)
        }
    }

    /// The disk is completely full, even for the lock, when prune has to free space.
    @Test(.enabled(if: SystemFacts.isRoot, "mounts a small filesystem"))
    func aFullDiskGetsRoomBack() throws {
        let fixture = try PruneFixture()
        let small = fixture.folder.path.appending("small")
        try Files.makeFolders(small)
        _ = try ChildProcess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", small.string])
        defer { _ = try? ChildProcess.run(["umount", "-l", small.string]) }
        try #require(try Files.status(small)?.isFolder == true && Files.freeByteCount(small) == 8 << 20)
        let path = small.appending("repo")
        let repository = try Repository.create(
            in: LocalStore(path), chunkByteCount: MadeUpDiskCapture.chunkByteCount, keys: nil)
        let disk = try fixture.disk()
        let id = try disk.capture(into: repository).id
        let other = try fixture.disk()
        let writer = try repository.writer(header: other.header, host: "host", disk: "disk", tags: [], level: 3)
        try other.capture(into: writer, stoppingAfter: other.chunks.count / 2)
        writer.abandon()
        let filler = try OwnedDescriptor.open(
            small.appending("filler"), .writeOnly, options: [.create], permissions: [.ownerReadWrite])
        let page = [UInt8](repeating: 1, count: 4096)
        while (try? filler.raw.writeAll(page)) != nil {}
        #expect(Files.freeByteCount(small) == 0)
        let report = try repository.prune(grace: 0)
        #expect(report.removed.packCount == 1)
        let free = try #require(Files.freeByteCount(small))
        #expect(free >= report.removed.byteCount)
        let verified = try Repository.open(LocalStore(path), keys: nil).verify(readDataPercent: 100)
        #expect(verified.isWhole, "\(verified.problems)")
        #expect(try Repository.restore(id, at: path, keys: nil) == PruneFixture.used(disk))
        #expect(try repository.markedPacks().isEmpty && Files.names(in: path.appending("locks")).isEmpty)
    }

    @Test func onlyOneAtATime() throws {
        let fixture = try PruneFixture()
        let lock = try RepositoryLock.acquire(in: LocalStore(fixture.path), operation: .merge)
        #expect(throws: ImageError.self) { try fixture.repository.prune() }
        // A dry run changes nothing, and is allowed.
        _ = try fixture.repository.prune(dryRun: true)
        lock.release()
        _ = try fixture.repository.prune()
    }

    @Test func forgetsByPolicy() throws {
        let fixture = try PruneFixture()
        let disk = try fixture.disk(started: "2026-01-01T12:00:00Z")
        var ids: [ContentHash] = []
        for day in 1...9 {
            var next = disk
            next.header.manifest.started = "2026-01-0\(day)T12:00:00Z"
            ids.append(try fixture.capture(next, host: day == 9 ? "other" : "host"))
        }
        let policy = RetentionPolicy(keepLast: 2)
        let dry = try fixture.repository.forget(policy: policy, host: "host", dryRun: true)
        #expect(dry.forgotten.count == 6 && dry.isDryRun)
        #expect(try fixture.repository.snapshotIDs().count == 9)
        #expect(try fixture.repository.forget(policy: policy, host: "nobody").forgotten.isEmpty)
        #expect(try fixture.repository.forget(policy: policy, tag: "c").forgotten.isEmpty)
        let report = try fixture.repository.forget(policy: policy, tag: "a")
        #expect(report.groups.count == 2)
        #expect(Set(report.forgotten.map(\.id)) == Set(ids[0..<6]))
        for id in ids[0..<6] { fixture.expected[id] = nil }
        try fixture.check()
        #expect(throws: ImageError.self) { try fixture.repository.forget(policy: RetentionPolicy()) }
        #expect(try fixture.repository.snapshotIDs().count == 3)
    }
}
