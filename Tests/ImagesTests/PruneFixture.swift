// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import Glibc
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

/// A repository in its own folder, with the expected contents of each snapshot.
final class PruneFixture {
    let folder: ScratchFolder
    let repository: Repository
    let keys: MasterKeys?
    var random: SeededGenerator
    /// The contents of each snapshot.
    var expected: [ContentHash: [UInt8]] = [:]
    var path: FilePath { folder.path.appending("repo") }

    init(encrypted: Bool = false, test: String = #function) throws {
        let seed = Sample.seed(of: test)
        print("seed \(seed)")
        random = SeededGenerator(seed: seed)
        folder = try ScratchFolder()
        let keys: MasterKeys? = encrypted ? .random() : nil
        self.keys = keys
        let store = LocalStore(folder.path.appending("repo"))
        repository = try Repository.create(
            in: store, chunkByteCount: MadeUpDiskCapture.chunkByteCount, keys: keys
        ) {
            if let keys { try KeyStore(store).add(keys, password: Array("secret".utf8), label: "test", cost: cheap) }
        }
    }

    /// A disk that was not captured yet.
    func disk(started: String = "2026-01-02T03:04:05Z", byteCount: Int = 1_200_128) throws -> MadeUpDiskCapture {
        var disk = try MadeUpDiskCapture(&random, partitionByteCount: byteCount)
        // Its first chunk is unique and incompressible: data shared with other packs (pieces of lists and maps) is a
        // small part of its pack.
        for index in 0..<MadeUpDiskCapture.chunkByteCount {
            disk.bytes[index] = UInt8.random(in: 0...255, using: &random)
        }
        disk.header.manifest.started = started
        return disk
    }

    /// A copy of the disk with some used bytes changed.
    func changed(_ disk: MadeUpDiskCapture, started: String = "2026-01-03T03:04:05Z") -> MadeUpDiskCapture {
        var result = disk
        result.header.manifest.started = started
        let data = disk.chunks.filter { $0.kind == .data }
        for chunk in data where Int.random(in: 0..<3, using: &random) == 0 {
            result.bytes[Int(chunk.range.lowerBound)] ^= UInt8.random(in: 1...255, using: &random)
        }
        return result
    }

    /// The bytes that a restore writes: unused ones are omitted.
    static func used(_ disk: MadeUpDiskCapture) -> [UInt8] {
        var bytes = disk.bytes
        for chunk in disk.chunks where chunk.kind != .data {
            for index in chunk.range { bytes[Int(index)] = 0 }
        }
        return bytes
    }

    @discardableResult
    func capture(_ disk: MadeUpDiskCapture, host: String = "host") throws -> ContentHash {
        let lock = try RepositoryLock.acquire(in: LocalStore(path), operation: .capture)
        defer { lock.release() }
        let id = try disk.capture(into: repository, host: host).id
        expected[id] = Self.used(disk)
        return id
    }

    /// A capture of a new disk that ends in its middle.
    func abandonCapture() throws {
        let disk = try disk()
        let writer = try repository.writer(header: disk.header, host: "host", disk: "disk", tags: [], level: 3)
        try disk.capture(into: writer, stoppingAfter: disk.chunks.count / 2)
        writer.abandon()
    }

    /// Checks that everything is intact and every snapshot returns its contents.
    func check(_ comment: String = "", sourceLocation: SourceLocation = #_sourceLocation) throws {
        let report = try repository.verify(readDataPercent: 100)
        #expect(report.problems.isEmpty, "\(comment) \(report.problems)", sourceLocation: sourceLocation)
        let ids = try repository.snapshotIDs()
        #expect(Set(ids) == Set(expected.keys), "\(comment)", sourceLocation: sourceLocation)
        for (id, bytes) in expected {
            let restored = try Repository.restore(id, at: path, keys: keys)
            #expect(restored == bytes, "\(comment)", sourceLocation: sourceLocation)
        }
    }

    func forget(_ id: ContentHash) throws {
        try repository.forget([id])
        expected[id] = nil
    }

    /// Makes everything in `marks/` and all packs older by the given seconds.
    func age(_ seconds: Int) throws {
        var files = Files.names(in: path.appending("marks")).map { path.appending("marks").appending($0) }
        for group in Files.names(in: path.appending("packs")) {
            let folder = path.appending("packs").appending(group)
            files += Files.names(in: folder).map { folder.appending($0) }
        }
        for file in files {
            let modified = try #require(try Files.status(file)).modified
            if file.lastComponent?.string.hasPrefix("batch-") == true {
                var batch = try JSONText.decode(PruneBatch.self, try Files.read(file))
                let marked = try #require(TimeText(batch.marked)?.unixSeconds)
                batch.marked = SystemFacts.utcText(marked - Int64(seconds))
                try overwrite(file, try JSONText.encode(batch))
            }
            var times = [timespec(), timespec()]
            times[0].tv_sec = Int(modified) - seconds
            times[1] = times[0]
            #expect(utimensat(AT_FDCWD, file.string, &times, 0) == 0)
        }
    }

    /// Whether the contents of the first chunk of a disk of `disk()`, which no other disk has, are stored.
    func stores(_ disk: MadeUpDiskCapture) throws -> Bool {
        let chunk = Array(disk.bytes[..<MadeUpDiskCapture.chunkByteCount])
        let id = repository.coding(level: 3, kind: .data).identity.id(of: chunk)
        return try !repository.indexSet().locations(BlobKey(id, .data)).found.isEmpty
    }

    var packCount: Int { (try? repository.store.packNames())?.count ?? -1 }
    var packByteCount: Int { ((try? Repository.files(path.appending("packs"))) ?? [:]).values.reduce(0, +) }
}
