// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

/// Snapshot files that are missing but were not forgotten: prune must keep their contents.
@Suite struct MissingSnapshotTests {
    private static func move(_ from: FilePath, _ to: FilePath) throws { try Files.rename(from, to: to) }

    /// The message of the refusal, with the number to confirm.
    private func refusal(_ body: () throws -> PruneReport) -> String? {
        do {
            _ = try body()
            return nil
        } catch ImageError.refused(let why) { return why } catch { return nil }
    }

    /// A repository with a temporarily empty folder of snapshots: a missing mount.
    @Test(arguments: [false, true]) func anEmptyFolderOfSnapshots(wasPruned: Bool) throws {
        let fixture = try PruneFixture()
        for _ in 0..<2 { try fixture.capture(try fixture.disk()) }
        if wasPruned { _ = try fixture.repository.prune() }
        let (snapshots, aside) = (fixture.path.appending("snapshots"), fixture.path.appending("aside"))
        try Self.move(snapshots, aside)
        try Files.makeFolders(snapshots)
        let before = try Repository.files(fixture.path)
        for grace in [0, Repository.usualGrace] {
            for dryRun in [false, true] {
                let why = refusal { try fixture.repository.prune(grace: grace, dryRun: dryRun) }
                #expect(why?.contains("--confirm-missing-snapshots 2") == true, "\(why ?? "not refused")")
            }
            for wrong in [0, 1, 3] {
                #expect(refusal { try fixture.repository.prune(grace: grace, confirmedMissing: wrong) } != nil)
            }
        }
        #expect(try Repository.files(fixture.path) == before)
        try Files.removeFolder(snapshots)
        try Self.move(aside, snapshots)
        let report = try fixture.repository.prune(grace: 0)
        #expect(report.removed.packCount == 0 && report.waiting.packCount == 0)
        try fixture.check()
    }

    /// Made by an earlier version: the number of snapshots is not recorded.
    @Test func anEmptyFolderWithoutALedger() throws {
        let fixture = try PruneFixture()
        let id = try fixture.capture(try fixture.disk())
        for name in Files.names(in: fixture.path.appending("ledger")) {
            try Files.remove(fixture.path.appending("ledger").appending(name))
        }
        try Files.removeFolder(fixture.path.appending("ledger"))
        let (file, aside) = (fixture.repository.layout.snapshot(id), fixture.path.appending("aside"))
        try Self.move(file, aside)
        let why = refusal { try fixture.repository.prune(grace: 0) }
        #expect(why?.contains("--confirm-missing-snapshots 0") == true, "\(why ?? "not refused")")
        #expect(fixture.packCount == 1)
        try Self.move(aside, file)
        #expect(try fixture.repository.prune(grace: 0).removed.packCount == 0)
        try fixture.check()
    }

    @Test func oneSnapshotMovedAside() throws {
        let fixture = try PruneFixture()
        let disks = try (0..<3).map { _ in try fixture.disk() }
        let first = try fixture.capture(disks[0])
        let second = try fixture.capture(disks[1])
        try fixture.capture(disks[2])
        try fixture.forget(first)
        let (file, aside) = (fixture.repository.layout.snapshot(second), fixture.path.appending("aside"))
        try Self.move(file, aside)
        let why = refusal { try fixture.repository.prune(grace: 0) }
        #expect(why?.contains("--confirm-missing-snapshots 1") == true, "\(why ?? "not refused")")
        #expect(
            why?.contains(second.description.prefix(12)) == true && why?.contains(first.description.prefix(12)) == false
        )
        // After confirmation its contents get the grace time, and are restored together with it.
        let marking = try fixture.repository.prune(confirmedMissing: 1)
        #expect(marking.removed.packCount == 0 && marking.newlyMarked.packCount == 2)
        #expect(try fixture.repository.prune().removed.packCount == 0)
        try Self.move(aside, file)
        let report = try fixture.repository.prune(grace: 0)
        // Disks can share a piece of a list or a map by chance. If the first and the third do, the pack of the forgotten one
        // is unmarked too, that piece is copied into a pack of its own, and the rest is removed.
        let sharesPiece = report.repacked.packCount
        #expect(sharesPiece <= 1 && report.unmarked.packCount == 1 + sharesPiece && report.removed.packCount == 1)
        #expect(try disks.map { try fixture.stores($0) } == [false, true, true])
        try fixture.check()
        // Recorded again, so it can be missing again.
        try Self.move(file, aside)
        #expect(refusal { try fixture.repository.prune() } != nil)
        // Immediately, for a full disk.
        fixture.expected[second] = nil
        let last = try fixture.repository.prune(grace: 0, confirmedMissing: 1)
        // If the second and the third share one, it is copied from the second's pack and from the one of copies, and both
        // are removed.
        #expect(last.removed.packCount == max(1 + sharesPiece, last.repacked.packCount))
        #expect(try disks.map { try fixture.stores($0) } == [false, false, true])
        try fixture.check()
        #expect(refusal { try fixture.repository.prune(confirmedMissing: 1) } != nil)
        #expect(try fixture.repository.prune().waiting.packCount == 0)
    }

    /// A copy with changed times, also of marks: neither refused, nor due earlier.
    @Test(arguments: ["cp -r", "cp -a"] + (ChildProcess.canFind("rsync") ? ["rsync -a", "rsync -r"] : [])) func copies(
        how: String
    ) throws {
        let words = how.split(separator: " ").map(String.init)
        try #require(ChildProcess.canFind(words[0]))
        let fixture = try PruneFixture()
        let first = try fixture.capture(try fixture.disk())
        try fixture.capture(try fixture.disk())
        try fixture.forget(first)
        #expect(try fixture.repository.prune().newlyMarked.packCount == 1)
        let copy = fixture.folder.path.appending("copy")
        let source = words[0] == "rsync" ? "\(fixture.path)/" : fixture.path.string
        #expect(try ChildProcess.run(words + [source, copy.string]).succeeded)
        let repository = try Repository.open(LocalStore(copy), keys: nil)
        let report = try repository.prune()
        #expect(report.removed.packCount == 0 && report.waiting.packCount == 1)
        // All times lost: `marked` counts.
        for name in Files.names(in: copy.appending("marks")) {
            #expect(
                try ChildProcess.run(["touch", "-d", "@1000", copy.appending("marks").appending(name).string]).succeeded
            )
        }
        #expect(try repository.prune().removed.packCount == 0)
        for (id, bytes) in fixture.expected {
            #expect(try Repository.restore(id, at: copy, keys: nil) == bytes)
        }
    }

    /// A half-finished copy: packs and the ledger before the snapshots.
    @Test func aCopyThatIsNotComplete() throws {
        let fixture = try PruneFixture()
        for _ in 0..<3 { try fixture.capture(try fixture.disk()) }
        let copy = fixture.folder.path.appending("copy")
        #expect(try ChildProcess.run(["cp", "-a", fixture.path.string, copy.string]).succeeded)
        let repository = try Repository.open(LocalStore(copy), keys: nil)
        for id in try repository.snapshotIDs().dropFirst() { try Files.remove(repository.layout.snapshot(id)) }
        #expect(refusal { try repository.prune(grace: 0) }?.contains("--confirm-missing-snapshots 2") == true)
        #expect(try repository.store.packNames().count == 3)
    }

    /// A forget that was killed leaves the snapshot, or its record; a concurrent capture is never missing.
    @Test func recordsAreSettled() throws {
        let fixture = try PruneFixture()
        let first = try fixture.capture(try fixture.disk())
        let second = try fixture.capture(try fixture.disk())
        let ledger = fixture.path.appending("ledger")
        #expect(Set(Files.names(in: ledger)) == ["\(first)", "\(second)"])
        try fixture.forget(first)
        #expect(Set(Files.names(in: ledger)) == ["\(first)", "\(first).forgotten", "\(second)"])
        var third: ContentHash?
        _ = try fixture.repository.prune(grace: 0, dryRun: false, waiting: 0, note: { _ in }) {
            (step) throws(ImageError) in
            guard step == .referenced else { return }
            do { third = try fixture.capture(try fixture.disk()) } catch { Issue.record(error) }
        }
        #expect(Set(Files.names(in: ledger)) == ["\(second)", "\(try #require(third))"])
        // Forgotten between a prune's list of snapshots and its look at the ledger.
        let ids = try fixture.repository.snapshotIDs()
        try fixture.forget(second)
        let seen = try SnapshotLedger(fixture.repository.store)
        #expect(try seen.missing(besides: ids).isEmpty)
        try seen.add(ids)
        try seen.settle(gone: [])
        #expect(Set(Files.names(in: ledger)) == ["\(try #require(third))"])
        _ = try fixture.repository.prune(grace: 0)
        try fixture.check()
    }
}
