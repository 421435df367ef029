// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

@Suite(.enabled(if: Tool.have("sfdisk"), "needs sfdisk")) struct MBRReaderTests {
    private static let script = """
        label: dos
        label-id: 0x1234abcd
        start=2048, size=20480, type=7, bootable
        start=22528, size=100, type=83
        start=24576, size=90000, type=f
        start=26624, size=8192, type=82
        start=36864, size=4096, type=83
        start=43008, size=2048, type=8e
        start=120000, size=8000, type=c

        """

    private func disk(_ script: String = script, sectorSize: Int = 512) throws -> (Workbench, FilePath) {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 64 << 20)
        // sfdisk of Debian 12 takes the sector size from a device only.
        let loop = try LoopDevice(over: image, range: 0..<64 << 20, sectorSize: sectorSize)
        try Tool.run(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", loop.path.string], input: script)
        return (bench, image)
    }

    @Test func primariesAndLogicals() throws {
        let (bench, image) = try disk()
        let table = try PartitionTableReader.read(try BlockDevice(opening: image))
        #expect(table.kind == .mbr && table.diskSignature == 0x1234_abcd && table.condition == .intact)
        #expect(table.partitions.map(\.number) == [1, 2, 3, 4, 5, 6, 7])
        #expect(
            table.partitions.map(\.mbr?.role) == [
                .primary, .primary, .extended, .primary, .logical, .logical, .logical,
            ])
        #expect(table.partitions.map(\.mbr?.type) == [0x07, 0x83, 0x0F, 0x0C, 0x82, 0x83, 0x8E])
        #expect(table.partitions.map(\.mbr?.isActive) == [true, false, false, false, false, false, false])
        #expect(table.partitions[4].range == 26624 * 512..<(26624 + 8192) * 512)
        #expect(table.partitions[6].range == 43008 * 512..<(43008 + 2048) * 512)
        #expect(table.bootRecords?.count == 3 && table.bootRecords?.first == 24576 * 512)
        #expect(table.partUUID(of: table.partitions[5]) == "1234abcd-06")
        #expect(table.partitions[4].typeGUID.description == PartitionType.linuxSwap)
        // The volumes of the survey are all except the extended partition.
        let survey = try DiskSurveyor.survey(
            try BlockDevice(opening: image), identity: DiskIdentity(path: "image"),
            geometry: DiskGeometry(byteCount: 64 << 20))
        #expect(survey.volumes.map { $0.partition?.number } == [1, 2, 5, 6, 7, 4])
        withExtendedLifetime(bench) {}
    }

    @Test func sectorsOf4KiB() throws {
        let (bench, image) = try disk(
            "label: dos\nstart=256, size=1024, type=83\nstart=2048, size=8192, type=5\nstart=2304, size=256, type=83\n",
            sectorSize: 4096)
        let table = try PartitionTableReader.read(try BlockDevice(opening: image, sectorSize: 4096))
        #expect(table.kind == .mbr)
        #expect(table.partitions.map { $0.range.lowerBound >> 20 } == [1, 8, 9])
        #expect(table.partitions.map { $0.range.byteCount >> 20 } == [4, 32, 1])
        withExtendedLifetime(bench) {}
    }

    @Test func randomTablesAreReadAsSfdiskReadsThem() throws {
        var random = Sample.generator(41)
        for _ in 0..<(Sample.isFull ? 60 : 8) {
            var lines = ["label: dos"]
            var sector = UInt64.random(in: 63...4096, using: &random)
            let primaries = Int.random(in: 0...3, using: &random)
            for _ in 0..<primaries {
                let size = UInt64.random(in: 1...9000, using: &random)
                lines.append(
                    "start=\(sector), size=\(size), type=\(["83", "7", "c", "82"].randomElement(using: &random) ?? "83")"
                )
                sector += size + UInt64.random(in: 0...3000, using: &random)
            }
            let logicals = Int.random(in: 0...9, using: &random)
            if logicals > 0 {
                lines.append(
                    "start=\(sector), size=\(131_072 - sector), type=\(Bool.random(using: &random) ? "5" : "f")")
                for _ in 0..<logicals {
                    sector += UInt64.random(in: 2048...3000, using: &random)
                    let size = UInt64.random(in: 1...4000, using: &random)
                    lines.append("start=\(sector), size=\(size), type=83")
                    sector += size
                }
            }
            guard primaries + logicals > 0 else { continue }
            let (bench, image) = try disk(lines.joined(separator: "\n") + "\n")
            let table = try PartitionTableReader.read(try BlockDevice(opening: image))
            let theirs = try Tool.run(["sfdisk", "-q", "-l", "-o", "START,SECTORS", image.string])
                .split(separator: "\n").dropFirst().map { $0.split(separator: " ").joined(separator: " ") }
            let ours = table.partitions.map { "\($0.range.lowerBound / 512) \($0.range.byteCount / 512)" }
            #expect(ours == theirs, "seed \(Sample.seed): \(lines)")
            withExtendedLifetime(bench) {}
        }
    }

    /// As many as libparted numbers, and more: sfdisk stops at number 60, libblkid continues.
    @Test(.enabled(if: Tool.have("partx"), "needs partx"), arguments: [60, 70])
    func longChainsAreFollowed(count: Int) throws {
        let bench = try Workbench()
        let image = bench.path("image")
        try bench.write(LogicalChain.disk(count), to: image)
        let table = try PartitionTableReader.read(try BlockDevice(opening: image))
        #expect(table.kind == .mbr && table.bootRecords?.count == count)
        #expect(table.partitions.map(\.number) == [1, 2] + Array(5...count + 4))
        let logicals = table.partitions.filter { $0.mbr?.role == .logical }
        let rows = LogicalChain.rows(count)
        #expect(logicals.map(\.range) == rows.map(\.range))
        #expect(logicals.compactMap(\.mbr?.type) == rows.map(\.type))
        #expect(logicals.compactMap(\.mbr?.isActive) == rows.map(\.isActive))
        let theirs = try Tool.run(["partx", "-g", "-o", "NR,START,SECTORS,TYPE,FLAGS", image.string])
            .split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
        let ours = table.partitions.map { partition in
            "\(partition.number) \(partition.range.lowerBound / 512) \(partition.range.byteCount / 512) "
                + "0x\(String(partition.mbr?.type ?? 0, radix: 16)) \(partition.mbr?.isActive == true ? "0x80" : "0x0")"
        }
        #expect(ours == theirs)
        withExtendedLifetime(bench) {}
    }

    /// Tables that no tool makes: each is taken whole.
    @Test func whatMakesNoSenseIsNotFollowed() throws {
        let (bench, image) = try disk()
        let good = try BlockDevice(opening: image).readBytes(at: 0, count: 64 << 20)
        func kind(_ change: (inout [UInt8]) -> Void) throws -> PartitionTable {
            var bytes = good
            change(&bytes)
            return try PartitionTableReader.read(PatchedReader(bytes))
        }
        let records = try #require(try MBRReader.read(MemoryDisk(good))?.bootRecords).map(Int.init)
        let changes: [(String, (inout [UInt8]) -> Void)] = [
            ("loop", { $0.setLittleEndian(UInt32(0), at: records[1] + 462 + 8) }),
            ("damaged", { $0[records[2] + 511] = 0 }),
            ("leaves", { $0.setLittleEndian(UInt32.max, at: records[0] + 446 + 12) }),
            ("overlap", { $0.setLittleEndian(UInt32(26624), at: 446 + 16 + 8) }),
            ("two extended", { $0[446 + 4] = 5 }),
            (
                "three entries",
                {
                    $0[records[1] + 478 + 4] = 0x83; $0[records[1] + 478 + 12] = 1
                }
            ),
            ("dynamic disk", { $0[446 + 16 + 4] = 0x42 }),
            ("protective", { $0[446 + 16 + 4] = 0xEE }),
            ("at its record", { $0.setLittleEndian(UInt32(0), at: records[0] + 446 + 8) }),
        ]
        for (name, change) in changes {
            let table = try kind(change)
            #expect(table.kind == .unknown && table.unknownKindName?.hasPrefix("MBR ") == true, "\(name): \(table)")
        }
        // An extended partition without a record yet.
        let empty = try kind { bytes in
            for record in records { for index in record..<record + 512 { bytes[index] = 0 } }
        }
        #expect(empty.kind == .mbr && empty.partitions.count == 4)
        withExtendedLifetime(bench) {}
    }

    @Test func anySingleWrongByteIsReadWithoutATrap() throws {
        let (bench, image) = try disk()
        let good = try BlockDevice(opening: image).readBytes(at: 0, count: 64 << 20)
        let records = try #require(try MBRReader.read(MemoryDisk(good))?.bootRecords).map(Int.init)
        var random = Sample.generator(42)
        let areas = ([0] + records).map { $0 + 440..<$0 + 512 }
        var followed = 0
        for _ in 0..<(Sample.isFull ? 20_000 : 2000) {
            var disk = PatchedReader(good)
            for _ in 0..<Int.random(in: 1...3, using: &random) { disk.addRandomPatch(in: areas, using: &random) }
            guard let table = try MBRReader.read(disk) else { continue }
            followed += 1
            let ranges = table.partitions.filter(\.isVolume).map(\.range).sorted { $0.lowerBound < $1.lowerBound }
            #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound })
            #expect(ranges.allSatisfy { $0.lowerBound >= 512 && $0.upperBound <= 64 << 20 })
        }
        #expect(followed > 0)
        withExtendedLifetime(bench) {}
    }

    /// A stick with a hybrid ISO, and a disk whose first partition is false.
    @Test(.enabled(if: Tool.have("mkfs.ext4"), "needs mkfs.ext4")) func aFilesystemUnderTheTableMakesItRaw() throws {
        let (bench, image) = try disk("label: dos\nstart=2048, size=20480, type=83\n")
        let record = try BlockDevice(opening: image).readBytes(at: 0, count: 512)
        try Tool.run(["mkfs.ext4", "-q", "-F", image.string])
        let disk = try BlockDevice(opening: image, .exclusiveWrite)
        try disk.writeBytes(record, at: 0)
        let table = try PartitionTableReader.read(
            disk, secondOpinion: SecondOpinion(descriptor: disk.fileDescriptor.rawValue))
        #expect(table.kind == .unknown && table.unknownKindName == "MBR and ext4 at the same time")
        withExtendedLifetime(bench) {}
    }
}
