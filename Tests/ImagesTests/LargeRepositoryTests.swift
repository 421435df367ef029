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

/// A synthetic repository of many chunks: their ids are random, and 8 bytes are stored for each, which no test decodes.
@Suite struct LargeRepositoryTests {
    static let chunkByteCount = 1 << 20

    /// The id of a chunk.
    static func id(_ number: UInt64) throws -> ContentHash {
        var generator = SeededGenerator(seed: number)
        var bytes: [UInt8] = []
        for _ in 0..<4 { bytes.appendLittleEndian(generator.next()) }
        return try #require(ContentHash(bytes: bytes[...]))
    }

    /// One disk of `count` chunks, all different and in use.
    static func header(_ count: UInt64) throws -> ImageHeader {
        let byteCount = count * UInt64(chunkByteCount)
        let manifest = Manifest(
            imageUUID: .random(), captureSet: .init(uuid: .random()), toolVersion: "1.2.3",
            machine: MachineFacts(architecture: "x86_64", firmware: "bios"), disk: DiskIdentity(path: "/dev/made-up"),
            geometry: DiskGeometry(byteCount: byteCount), table: PartitionTable(kind: .none, usable: 0..<byteCount),
            tableHead: [],
            tableTail: [], boot: BootSurvey(),
            regions: [.init(kind: .gap, range: 0..<byteCount, usedByteCount: byteCount)],
            chunkByteCount: chunkByteCount, level: 3, allSectors: false, mountedReadWrite: [],
            usedByteCount: byteCount, started: "2026-01-02T03:04:05Z", localOffsetSeconds: 0, note: "", tags: [])
        return ImageHeader(manifest: manifest, maps: [.whole(byteCount: byteCount)])
    }

    /// A hundred thousand chunks, or `REFORGE_CHUNKS`; the repository is kept at `REFORGE_LARGE_REPOSITORY`, if set,
    /// for `Scripts/benchmark` to measure the commands on it.
    @Test func aRepositoryOfManyChunksTakesLittleMemory() throws {
        let count = SystemFacts.environment("REFORGE_CHUNKS").flatMap { UInt64($0) } ?? 100_000
        let scratch = try ScratchFolder()
        let path =
            SystemFacts.environment("REFORGE_LARGE_REPOSITORY").map { FilePath($0) } ?? scratch.path.appending("r")
        let repository = try Repository.create(in: LocalStore(path), chunkByteCount: Self.chunkByteCount, keys: nil)
        let before = ProcessMemory.residentByteCount()
        let writer = try repository.writer(
            header: Self.header(count), host: "host", disk: "disk", tags: [], level: 3)
        for number in 0..<count {
            let start = number * UInt64(Self.chunkByteCount)
            var stored: [UInt8] = []
            stored.appendLittleEndian(number)
            unsafe try stored.withUnsafeBytes { stored in
                unsafe try writer.append(
                    ChunkRecord(
                        kind: .data, region: 0, range: start..<start + UInt64(Self.chunkByteCount),
                        storedByteCount: stored.count, hash: Self.id(number)), stored: stored)
            }
        }
        let written = ProcessMemory.residentByteCount()
        let snapshot = try writer.finish(LateFacts(ended: "2026-01-02T03:04:06Z"))
        #expect(snapshot.newByteCount == count * UInt64(Self.chunkByteCount))

        let reopened = try Repository.open(LocalStore(path), keys: nil)
        let indexes = try reopened.indexSet()
        var random = SeededGenerator(seed: 3)
        for _ in 0..<1000 {
            let key = try BlobKey(Self.id(UInt64.random(in: 0..<count, using: &random)), .data)
            #expect(try indexes.hits(key).count == 1)
            #expect(
                try indexes.hits(BlobKey(try Self.id(UInt64.random(in: count...UInt64.max, using: &random)), .data))
                    .isEmpty
            )
        }
        let lookedUp = ProcessMemory.residentByteCount()
        let report = try reopened.verify()
        #expect(report.isWhole, "\(report.problems)")
        let verified = ProcessMemory.residentByteCount()
        print(
            "repository of \(count) chunks: resident \(before >> 20) MiB before, \(written >> 20) MiB when written, "
                + "\(lookedUp >> 20) MiB when asked, \(verified >> 20) MiB when verified")
        // Concurrent tests use memory of the same process.
        guard SystemFacts.environment("REFORGE_CHUNKS") != nil else { return }
        for resident in [written, lookedUp, verified] { #expect(resident - before < 256 << 20) }
    }
}
