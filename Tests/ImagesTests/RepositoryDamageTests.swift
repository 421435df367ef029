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

/// Damaged bytes of a repository are reported or harmless; never a trap, never wrong contents.
@Suite struct RepositoryDamageTests {
    static func repository(
        _ scratch: ScratchFolder, isEncrypted: Bool = false, name: String = "r"
    ) throws -> Repository {
        try Repository.create(
            in: LocalStore(scratch.path.appending(name)), chunkByteCount: MadeUpDiskCapture.chunkByteCount,
            keys: isEncrypted ? .random() : nil)
    }

    /// Checks everything in a repository except contents, and throws the first error.
    static func inspect(_ path: FilePath, keys: MasterKeys?) throws {
        let repository = try Repository.open(LocalStore(path), keys: keys)
        let indexes = try repository.indexSet()
        if let damaged = indexes.damaged.first { throw damaged.error }
        var cursor = try indexes.mergedCursor()
        while try cursor.next() != nil {}
        for name in try repository.store.packNames() {
            let pack = try PackFile(name, repository.store, repository.secrets)
            for entry in try pack.table() { try pack.checkRecord(entry) }
        }
        if let damaged = repository.snapshots().damaged.first { throw damaged.error }
    }

    @Test(arguments: [false, true]) func noBitChangesUnseen(isEncrypted: Bool) throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        let repository = try Self.repository(scratch, isEncrypted: isEncrypted)
        let capture = try MadeUpDiskCapture(&random, partitionByteCount: 600_000)
        let id = try capture.capture(into: repository).id
        try Self.inspect(repository.path, keys: repository.keys)
        // Entries of the ledger are empty.
        let files = try Repository.files(repository.path).filter {
            !$0.key.hasPrefix("locks") && !$0.key.hasPrefix("ledger")
        }
        var harmless = 0
        var silent = 0
        for (name, byteCount) in files.sorted(by: { $0.key < $1.key }) {
            let path = repository.path.appending(name)
            let bytes = try Files.read(path)
            for round in 0..<(Sample.isFull ? 1000 : 80) {
                var changed = bytes
                // Both ends contain more checked bytes than the middle.
                let byte =
                    switch round % 4 {
                    case 0: Int.random(in: 0..<min(100, byteCount), using: &random)
                    case 1: byteCount - 1 - Int.random(in: 0..<min(400, byteCount), using: &random)
                    default: Int.random(in: 0..<byteCount, using: &random)
                    }
                changed[byte] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                try overwrite(path, changed)
                let isReported = (try? Self.inspect(repository.path, keys: repository.keys)) == nil
                do {
                    let restored = try Repository.restore(id, at: repository.path, keys: repository.keys)
                    // A damaged index does no harm while its packs can be read.
                    #expect(restored == capture.bytes, "seed \(seed), byte \(byte) of \(name)")
                    harmless += 1
                    if !isReported {
                        silent += 1
                        // Bits that no zstd decoder checks.
                        #expect(name.hasPrefix("packs/") && !isEncrypted, "seed \(seed), byte \(byte) of \(name)")
                    }
                } catch {
                    #expect(!"\(error)".isEmpty)
                }
            }
            try overwrite(path, bytes)
        }
        try Self.inspect(repository.path, keys: repository.keys)
        print("\(harmless) changed bits harmed nothing, of those \(silent) were not reported")
    }

    /// A damaged index is no reason to lose a snapshot, and a capture is no reason to trust it.
    @Test(arguments: [false, true]) func packsStandInForADamagedIndex(isEncrypted: Bool) throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        let repository = try Self.repository(scratch, isEncrypted: isEncrypted)
        let capture = try MadeUpDiskCapture(&random)
        let summary = try capture.capture(into: repository)
        let index = try #require(try repository.store.indexNames().first)
        let path = repository.layout.index(index)
        let bytes = try Files.read(path)
        for place in [0, 4096 + 100, bytes.count - 5] {
            var changed = bytes
            changed[place] ^= 4
            try overwrite(path, changed)
            let restored = try Repository.restore(summary.id, at: repository.path, keys: repository.keys)
            #expect(restored == capture.bytes, "seed \(seed)")
        }
        let fresh = try Repository.open(LocalStore(repository.path), keys: repository.keys)
        let again = try capture.capture(into: fresh)
        #expect(again.newByteCount == summary.newByteCount, "seed \(seed)")
        try Files.remove(path)
        for id in [summary.id, again.id] {
            let restored = try Repository.restore(id, at: repository.path, keys: repository.keys)
            #expect(restored == capture.bytes)
        }
    }

    @Test func aTruncatedPackIsReported() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        for isEncrypted in [false, true] {
            let repository = try Self.repository(scratch, isEncrypted: isEncrypted, name: "r\(isEncrypted)")
            let capture = try MadeUpDiskCapture(&random)
            let id = try capture.capture(into: repository).id
            let name = try #require(try repository.store.packNames().first)
            let path = repository.layout.pack(name)
            let bytes = try Files.read(path, limit: 1 << 30)
            for _ in 0..<40 {
                try overwrite(path, Array(bytes[..<Int.random(in: 0..<bytes.count, using: &random)]))
                #expect(throws: ImageError.self, "seed \(seed)") {
                    try Self.inspect(repository.path, keys: repository.keys)
                }
            }
            // Damage of a chunk names the bytes of the disk.
            try overwrite(path, Array(bytes[..<200]))
            do {
                _ = try Repository.restore(id, at: repository.path, keys: repository.keys)
                Issue.record("restored without its chunks")
            } catch let error as ImageError {
                guard case .damaged(let name, _, _, let disk, _) = error else {
                    Issue.record("\(error)")
                    continue
                }
                #expect(name == repository.name(of: id) && disk != nil)
            }
            // A pack under another's name.
            try overwrite(path, bytes)
            let other = StoreName.random()
            try Files.makeFolders(repository.layout.pack(other).removingLastComponent())
            try Files.rename(path, to: repository.layout.pack(other))
            #expect(throws: ImageError.self) {
                try PackFile(other, repository.store, repository.secrets)
            }
        }
    }

    @Test func pathsThatAreNoRepositories() throws {
        let scratch = try ScratchFolder()
        func message(_ path: FilePath) -> String {
            switch Result(catching: { () throws(ImageError) in try Repository.open(LocalStore(path), keys: nil) }) {
            case .success: "opened"
            case .failure(let error): "\(error)"
            }
        }
        let file = scratch.path.appending("file")
        try overwrite(file, [1])
        #expect(!LocalStore.isRepository(file))
        #expect(message(file).contains("it is a file"))
        #expect(message(scratch.path.appending("nowhere")).contains("there is no repository"))
        #expect(message(scratch.path).contains("holds no repository.json"))
        #expect(throws: ImageError.self) {
            try Repository.create(in: LocalStore(file), chunkByteCount: 1 << 20, keys: nil)
        }
        // Not empty.
        #expect(throws: ImageError.self) {
            try Repository.create(in: LocalStore(scratch.path), chunkByteCount: 1 << 20, keys: nil)
        }
        #expect(throws: ImageError.self) {
            try Repository.create(in: LocalStore(scratch.path.appending("odd")), chunkByteCount: 1000, keys: nil)
        }
        #expect(!Files.exists(scratch.path.appending("odd")))
        let repository = try Self.repository(scratch)
        #expect(LocalStore.isRepository(repository.path))
        let path = repository.layout.configuration
        let text = String(decoding: try Files.read(path), as: UTF8.self)
        for (old, new, expected) in [
            ("\"major\" : 1", "\"major\" : 2", "newer"),
            ("\"incompatibleFeatures\" : [\n\n  ]", "\"incompatibleFeatures\" : [\"time-travel\"]", "time-travel"),
            ("reforge repository", "restic repository", "damaged"), ("65536", "65537", "damaged"),
            ("\"isEncrypted\" : false", "\"isEncrypted\" : true", "damaged"),
        ] {
            let parts = text.split(separator: old, omittingEmptySubsequences: false)
            #expect(parts.count == 2, "\(old)")
            try overwrite(path, Array(parts.joined(separator: new).utf8))
            #expect(message(repository.path).contains(expected))
        }
        let foreign =
            #"{"format": "restic repository", "version": {"major": 1, "minor": 0}, "incompatibleFeatures": []}"#
        try overwrite(path, Array(foreign.utf8))
        #expect(message(repository.path).contains("is not a Reforge repository"))
        try overwrite(path, Array(text.utf8))
        #expect(message(repository.path) == "opened")
        // Keys although none are needed, and vice versa.
        #expect(throws: ImageError.self) { try Repository.open(LocalStore(repository.path), keys: .random()) }
        let sealed = try Self.repository(scratch, isEncrypted: true, name: "sealed")
        #expect(throws: ImageError.self) { try Repository.open(LocalStore(sealed.path), keys: nil) }
        // A preparation that fails leaves no repository.
        struct Refused: Error {}
        let unready = scratch.path.appending("unready")
        #expect(throws: ImageError.self) {
            try Repository.create(in: LocalStore(unready), chunkByteCount: 1 << 20, keys: .random()) { throw Refused() }
        }
        #expect(!LocalStore.isRepository(unready))
    }

    @Test func aSnapshotOfAnotherRepositoryOrName() throws {
        let scratch = try ScratchFolder()
        var random = SeededGenerator(seed: 5)
        let capture = try MadeUpDiskCapture(&random)
        let own = try Self.repository(scratch)
        let other = try Self.repository(scratch, name: "other")
        let id = try capture.capture(into: other).id
        let bytes = try Files.read(other.layout.snapshot(id))
        try overwrite(own.layout.snapshot(id), bytes)
        #expect(own.snapshots().damaged.count == 1)
        #expect("\(try #require(own.snapshots().damaged.first).error)".contains("another repository"))
        let renamed = ContentHash(of: [1])
        try overwrite(other.layout.snapshot(renamed), bytes)
        try overwrite(other.layout.snapshots.appending(".x.reforge-new"), bytes)
        let all = other.snapshots()
        #expect(all.whole.map(\.info.id) == [id] && all.damaged.count == 1)
        do {
            _ = try other.snapshot(ContentHash(of: [2]))
            Issue.record("found")
        } catch {
            guard case .missing = error else {
                Issue.record("\(error)")
                return
            }
        }
    }

    /// Contradictory payloads under a valid name.
    @Test func hostileSnapshots() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        let repository = try Self.repository(scratch)
        let capture = try MadeUpDiskCapture(&random, partitionByteCount: 300_000)
        let id = try capture.capture(into: repository).id
        let whole = try repository.snapshot(id)
        let facts = SnapshotFacts(
            manifest: whole.manifest, host: "h", disk: "d", tags: [], lateFacts: whole.lateFacts,
            statistics: whole.statistics)
        let payload = try SnapshotFile.payload(facts, whole.regions)
        for _ in 0..<3000 {
            var bytes = payload
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if Int.random(in: 0..<4, using: &random) == 0 {
                bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random))
            }
            let name = repository.secrets.identity.id(of: bytes)
            let file = try SnapshotFile.bytes(payload: bytes, id: name, repository.secrets)
            guard
                let snapshot = try? SnapshotFile.snapshot(
                    file, id: name, chunkByteCount: MadeUpDiskCapture.chunkByteCount, repository.secrets, path: "x")
            else { continue }
            guard let reader = try? repository.reader(snapshot) else { continue }
            while let record = try? reader.nextRecord() { #expect(!record.range.isEmpty) }
        }
    }

    @Test func hostilePieces() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        var piece = ListPiece()
        piece.append(ContentHash(of: [1]))
        piece.appendRun(.zero, count: 5)
        piece.appendRun(.unused, count: 300)
        piece.appendRun(.unused, count: 1)
        #expect(try ListPiece(piece.bytes, chunkCount: 307) == piece)
        #expect(throws: ParsingError.self) { try ListPiece(piece.bytes, chunkCount: 308) }
        #expect(throws: ParsingError.self) { try ListPiece(piece.bytes, chunkCount: 306) }
        for _ in 0..<5000 {
            var bytes = piece.bytes
            bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            bytes.removeLast(Int.random(in: 0..<3, using: &random))
            if let other = try? ListPiece(bytes, chunkCount: 307) { #expect(other.chunkCount == 307) }
            var map = AllocationMap(byteCount: 1 << 40)
            try? MapPiece.insert(
                (0..<20).map { _ in UInt8.random(in: 0...255, using: &random) }, span: 1 << 20..<1 << 39, into: &map)
            #expect(map.ranges.allSatisfy { $0.lowerBound >= 1 << 20 && $0.upperBound <= 1 << 39 }, "seed \(seed)")
        }
    }

    /// On a read-only filesystem, everything is read without errors.
    @Test(.enabled(if: SystemFacts.isRoot, "mounting needs root")) func aReadOnlyRepository() throws {
        let scratch = try ScratchFolder()
        var random = SeededGenerator(seed: 5)
        let capture = try MadeUpDiskCapture(&random)
        let repository = try Self.repository(scratch)
        let id = try capture.capture(into: repository).id
        let place = scratch.path.appending("mounted")
        try Files.makeFolders(place)
        guard
            try ChildProcess.run(["mount", "--bind", "-o", "ro", repository.path.string, place.string]).ending
                == .exited(0)
        else { return }
        defer { _ = try? ChildProcess.run(["umount", "-l", place.string]) }
        #expect(throws: (any Error).self) { try overwrite(place.appending("x"), [1]) }
        #expect(try Repository.restore(id, at: place, keys: nil) == capture.bytes)
        let mounted = try Repository.open(LocalStore(place), keys: nil)
        #expect(throws: (any Error).self) { try capture.capture(into: mounted) }
    }
}
