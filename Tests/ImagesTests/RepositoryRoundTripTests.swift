// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

@Suite struct RepositoryRoundTripTests {
    static func keys(_ isEncrypted: Bool) -> MasterKeys? { isEncrypted ? .random() : nil }

    @Test(arguments: [false, true]) func whatWasCapturedComesBack(isEncrypted: Bool) throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("repository")
        let keys = Self.keys(isEncrypted)
        let repository = try Repository.create(
            in: LocalStore(path), chunkByteCount: MadeUpDiskCapture.chunkByteCount, keys: keys)
        let first = try MadeUpDiskCapture(&random)
        let summary = try first.capture(into: repository)
        #expect(summary.newByteCount > 0, "seed \(seed)")
        #expect(try Repository.restore(summary.id, at: path, keys: keys) == first.bytes, "seed \(seed)")
        let snapshot = try repository.snapshot(summary.id)
        #expect(snapshot.manifest == first.header.manifest)
        #expect(snapshot.info.host == "host" && snapshot.info.disk == "disk" && snapshot.info.tags == ["a", "b"])
        #expect(try repository.reader(snapshot).header == first.header)
        #expect(try Repository.files(path.appending("tmp")).isEmpty)
        // Nothing changed: only the snapshot's file and its ledger entry are stored.
        let before = try Repository.files(path)
        let again = try Repository.open(LocalStore(path), keys: keys)
        let second = try first.capture(into: again)
        #expect(second.newByteCount == 0)
        #expect(second.deduplicatedByteCount > 0)
        let after = try Repository.files(path)
        #expect(after.count <= before.count + 2)
        let fresh = after.keys.filter { before[$0] == nil }
        #expect(fresh.allSatisfy { $0.hasPrefix("snapshots/") || $0.hasPrefix("ledger/") })
    }
}
