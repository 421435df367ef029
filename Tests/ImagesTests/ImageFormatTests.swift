// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import ImageFiles
@testable import ImageModel

@Suite struct ImageFormatTests {
    /// A manifest with only fixed values.
    static func header() throws -> ImageHeader {
        let uuid = try GUID(bigEndianBytes: Array(0..<16))
        let table = PartitionTable(
            kind: .gpt, diskGUID: uuid, usable: 17_408..<4_177_408, entryCount: 128,
            partitions: [
                Partition(
                    number: 1, range: 1 << 20..<3 << 20, typeGUID: uuid, guid: uuid, name: "one", attributes: 4)
            ])
        var map = AllocationMap(byteCount: 2 << 20)
        map.insert(0..<4096)
        map.insert(70_000..<80_000)
        let maps = [AllocationMap.whole(byteCount: 1 << 20), map, AllocationMap.whole(byteCount: 1 << 20)]
        let manifest = Manifest(
            imageUUID: uuid, captureSet: .init(uuid: uuid), toolVersion: "1.2.3",
            machine: MachineFacts(architecture: "x86_64", firmware: "bios"), disk: DiskIdentity(path: "/dev/golden"),
            geometry: DiskGeometry(byteCount: 4 << 20), table: table, tableHead: [1, 2, 3], tableTail: [4, 5],
            boot: BootSurvey(),
            regions: [
                .init(kind: .gap, range: 0..<1 << 20, usedByteCount: 1 << 20),
                .init(
                    kind: .partition, range: 1 << 20..<3 << 20, partition: 1,
                    filesystem: FilesystemInfo(kind: .ext4, kindName: "ext4", mapSource: .allocationStructures),
                    usedByteCount: map.usedByteCount),
                .init(kind: .gap, range: 3 << 20..<4 << 20, usedByteCount: 1 << 20),
            ], chunkByteCount: 1 << 20, level: 3, allSectors: false, mountedReadWrite: [],
            usedByteCount: maps.reduce(0) { $0 + $1.usedByteCount }, started: "2026-01-02T03:04:05Z",
            localOffsetSeconds: 3600, note: "golden", tags: ["a"])
        return ImageHeader(manifest: manifest, maps: maps)
    }

    static func hexadecimal(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    @Test func goldenRecord() throws {
        let record = ChunkRecord(
            kind: .data, region: 2, range: 0x0102_0304_0000..<0x0102_0344_0000, storedByteCount: 0x1234,
            hash: ContentHash(of: Array("abc".utf8)))
        #expect(
            Self.hexadecimal(record.frame)
                == "502a4d1840000000" + "52464352" + "00" + "00" + "0200" + "0000040302010000" + "0000400000000000"
                + "34120000" + Golden.recordChecksum
                + "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(try ChunkRecord(payload: record.payload) == record)
    }

    @Test func goldenHeader() throws {
        let header = try Self.header()
        let payload = try header.payload()
        #expect(ContentHash(of: payload).description == Golden.headerHash)
        #expect(try ImageHeader(payload: payload, name: "golden") == header)
    }

    @Test func goldenFooter() throws {
        let footer = ImageFooter(
            indexOffset: 1, recordCount: 2, lateFactsOffset: 3, fileByteCount: 4,
            imageID: ContentHash(of: []), lateFactsHash: ContentHash(of: [1]))
        #expect(footer.payload.count == 128)
        #expect(ContentHash(of: footer.payload).description == Golden.footerHash)
        #expect(try ImageFooter(payload: footer.payload) == footer)
    }

    @Test func everyBitOfARecordCounts() throws {
        let record = ChunkRecord(kind: .zero, region: 1, range: 4096..<8192, storedByteCount: 18, hash: nil)
        for bit in 0..<512 {
            var payload = record.payload
            payload[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: ParsingError.self) { try ChunkRecord(payload: payload) }
        }
    }

    @Test func aNewerFormatIsRefusedWithASentence() throws {
        var payload = try Self.header().payload()
        payload[8] = 2
        do {
            _ = try ImageHeader(payload: payload, name: "x")
            Issue.record("accepted")
        } catch {
            guard case .unsupported = error else {
                Issue.record("\(error)")
                return
            }
        }
        var header = try Self.header()
        header.manifest.incompatibleFeatures = ["time-travel"]
        let strange = try header.payload()
        do {
            _ = try ImageHeader(payload: strange, name: "x")
            Issue.record("accepted")
        } catch {
            #expect("\(error)".contains("time-travel"))
        }
    }

    @Test func manifestsThatContradictThemselvesAreRefused() throws {
        let changes: [(inout Manifest) -> Void] = [
            { $0.chunkByteCount = 65_537 }, { $0.chunkByteCount = -4 }, { $0.regions.removeLast() },
            { $0.regions[0].range = 0..<1000 }, { $0.regions[1].partition = 7 }, { $0.geometry.byteCount = .max },
            { $0.geometry.logicalSectorSize = 0 }, { $0.regions[1].usedByteCount += 1 }, { $0.codec = "none" },
            { $0.table.partitions = [] }, { $0.captureSet.index = 0 }, { $0.regions = [] },
            { $0.usedByteCount = .max }, { $0.usedByteCount = $0.geometry.byteCount + 1 },
        ]
        for change in changes {
            var header = try Self.header()
            change(&header.manifest)
            let payload = try header.payload()
            #expect(throws: ImageError.self) { try ImageHeader(payload: payload, name: "x") }
        }
    }

    /// Random damage with a corrected checksum: never a trap, never a hang.
    @Test func hostileHeaders() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let payload = try Self.header().payload()
        for _ in 0..<4000 {
            var bytes = Array(payload.dropLast(4))
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 10..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if Int.random(in: 0..<8, using: &random) == 0 {
                bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random))
            }
            bytes.appendLittleEndian(CRC32.iso.checksum(bytes))
            _ = try? ImageHeader(payload: bytes, name: "x")
        }
    }

    @Test func foreignFilesAreNamedSo() throws {
        let scratch = try ScratchFolder()
        for (name, bytes) in [
            ("empty", []), ("text", Array("hello, this is no image at all".utf8)), ("short", [0x50, 0x2A]),
            ("zstd", try Zstd.compress([UInt8](repeating: 1, count: 1000))),
        ] {
            let path = scratch.path.appending(name)
            try Files.write(bytes, to: path)
            do {
                _ = try ImageFile(path)
                Issue.record("\(name) was taken for an image")
            } catch {
                guard case .foreign = error else {
                    Issue.record("\(name): \(error)")
                    continue
                }
            }
        }
    }

    @Test func anUnfinishedImageLeavesNothing() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("image")
        do {
            let output = try ImageOutput(path, overwrite: false)
            _ = try ImageFileWriter(to: output.descriptor, name: output.name, header: try Self.header())
            #expect(!Files.exists(path))
        }
        #expect(Files.names(in: scratch.path).isEmpty)
        try Files.write([1], to: path)
        #expect(throws: SystemCallError.self) { try ImageOutput(path, overwrite: false) }
        // A file that appears while the image is written is not replaced either.
        try Files.remove(path)
        let output = try ImageOutput(path, overwrite: false)
        try Files.write([7], to: path)
        #expect(throws: SystemCallError.self) { try output.commit() }
        #expect(try Files.read(path) == [7])
    }
}

/// The bytes of the format as fixed in version 1.0: see ImageFormat.md.
enum Golden {
    static let recordChecksum = "9e52e070"
    static let headerHash = "7e4e1ea1f9d09480d64ab647e12bc3923fa34db7543c65571571d66586891020"
    static let footerHash = "816d7fc1a7a6013ed5653a593c1719e1d3e054d645d3e1cd0531e7498834abee"
}
