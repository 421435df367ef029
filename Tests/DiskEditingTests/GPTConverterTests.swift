// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskEditing

/// Tables for a start by the other firmware, judged by sfdisk and sgdisk; libparted judges each inside `convert`.
@Suite(.enabled(if: ChildProcess.canFind("sgdisk"), "needs gdisk"))
struct GPTConverterTests {
    private static let mebibyte: UInt64 = 1 << 20
    private static let byteCount = 256 * mebibyte

    private func file(_ scratch: ScratchFolder, _ name: String, _ byteCount: UInt64) throws -> FilePath {
        let path = scratch.path.appending(name)
        let file = try OwnedDescriptor.open(
            path, .readWrite, options: [.create, .truncate], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: byteCount)
        return path
    }

    private func run(_ arguments: [String], input: String = "", _ comment: Comment) throws -> String {
        let output = try ChildProcess.run(arguments, input: Array(input.utf8))
        try #require(output.succeeded, "\(arguments.joined(separator: " ")): \(output.lastWords) \(comment)")
        return output.text
    }

    /// The captured bytes and the parsed table of a disk that sfdisk made.
    private func captured(
        _ script: String, _ scratch: ScratchFolder, _ comment: Comment
    ) throws -> (CapturedTable, PartitionTable) {
        let path = try file(scratch, "source", Self.byteCount)
        _ = try run(["sfdisk", "-q", path.string], input: script, comment)
        let disk = try BlockDevice(opening: path)
        let table = try PartitionTableReader.read(disk)
        return (try CapturedTable(reading: disk, table: table), table)
    }

    private func write(_ table: CapturedTable, _ scratch: ScratchFolder) throws -> FilePath {
        let path = try file(scratch, "made", table.byteCount)
        let file = try OwnedDescriptor.open(path, .readWrite)
        try file.raw.writeAll(toAbsoluteOffset: 0, table.head)
        try file.raw.writeAll(toAbsoluteOffset: Int64(table.tailOffset), table.tail)
        return path
    }

    /// A random MBR with logical partitions, as a script of sfdisk in sectors.
    private func script(_ random: inout SeededGenerator) -> String {
        var lines = [
            "label: dos", "label-id: 0x\(String(UInt32.random(in: 1...UInt32.max, using: &random), radix: 16))",
        ]
        var position: UInt64 = [63, 2048].randomElement(using: &random) ?? 2048
        for number in 1...Int.random(in: 1...3, using: &random) {
            let length = UInt64.random(in: 2000...60_000, using: &random)
            let type = ["83", "82", "8e", "c", "fd"].randomElement(using: &random) ?? "83"
            lines.append("\(number) : start=\(position), size=\(length), type=\(type)")
            position += length + UInt64.random(in: 0...3000, using: &random)
        }
        let start = position
        var logicals: [String] = []
        for number in 5..<5 + Int.random(in: 1...6, using: &random) {
            position += UInt64.random(in: 1...2048, using: &random)
            let length = UInt64.random(in: 2000...40_000, using: &random)
            logicals.append("\(number) : start=\(position), size=\(length), type=83")
            position += length
        }
        lines.append("4 : start=\(start), size=\(position - start), type=5")
        return (lines + logicals).joined(separator: "\n") + "\n"
    }

    @Test(arguments: 0..<(Sample.isFull ? 60 : 10)) func aGPTReplacesAnMBR(index: Int) throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed &+ UInt64(index))
        let scratch = try ScratchFolder()
        let script = script(&random)
        let comment: Comment = "seed \(seed), case \(index)\n\(script)"
        let (captured, mbr) = try captured(script, scratch, comment)
        #expect(TableConverter.obstacle(toGPT: mbr) == nil, comment)
        let geometry = DiskGeometry(byteCount: Self.byteCount + UInt64.random(in: 0...64, using: &random) * 512)
        let identities = (0...128).map { _ in GUID.random() }
        let (gpt, entries) = TableConverter.gpt(replacing: mbr, source: geometry) { identities[$0] }
        let number = try #require(TableConverter.freeNumber(in: gpt))
        let added = Partition(
            number: number, range: 200 * Self.mebibyte..<240 * Self.mebibyte,
            typeGUID: try #require(GUID(PartitionType.efiSystem)), guid: .random(), name: "EFI system partition")
        let conversion = TableConversion(goal: .uefi, diskGUID: identities[0], entries: entries, added: added)
        let places = Dictionary(uniqueKeysWithValues: gpt.partitions.map { ($0.number, $0.range) })
        let made = try TableEditor.convert(
            captured, table: mbr, conversion, to: geometry, partitions: places, workFolder: scratch.path)
        let path = try write(made, scratch)
        let verified = try run(["sgdisk", "--verify", path.string], comment)
        #expect(verified.contains("No problems found"), "\(verified) \(comment)")
        let dump = try run(["sfdisk", "-d", path.string], comment).uppercased()
        for partition in mbr.partitions where partition.isVolume {
            let line = try #require(
                dump.split(separator: "\n").first { $0.hasPrefix("\(path.string.uppercased())\(partition.number) :") },
                comment)
            let words = line.filter { $0 != " " }
            #expect(words.contains("START=\(partition.range.lowerBound / 512),"), comment)
            #expect(words.contains("SIZE=\(partition.range.byteCount / 512),"), comment)
            #expect(words.contains("UUID=\(identities[partition.number].description.uppercased())"), comment)
            #expect(words.contains("TYPE=\(partition.typeGUID.description.uppercased())"), comment)
        }
        #expect(dump.contains("\(path.string.uppercased())\(number) :"), comment)
        #expect(dump.contains("EFI SYSTEM PARTITION"), comment)
        #expect(!dump.contains("\(path.string.uppercased())4 :"), "the extended partition is no entry; \(comment)")
        // No code is left that would look for core.img, where the table is now.
        #expect(made.head[..<440].allSatisfy { $0 == 0 }, comment)
    }

    /// sfdisk says that the first usable sector is 2048.
    @Test func aPartitionForCoreImageGoesBeforeTheFirstMebibyte() throws {
        let scratch = try ScratchFolder()
        let (captured, table) = try captured(
            "label: gpt\nstart=2048, size=81920, type=U\nstart=83968, size=100000, type=L, name=root\n", scratch, "gpt")
        #expect(table.usable.lowerBound == Self.mebibyte)
        let candidate = try #require(
            TableConverter.candidates(for: .bios, in: table, alignment: Self.mebibyte, sectorSize: 512).first)
        #expect(candidate.isFree && candidate.range == 80 * 512..<Self.mebibyte)
        let added = Partition(
            number: 3, range: candidate.range, typeGUID: try #require(GUID(PartitionType.biosBoot)), guid: .random(),
            name: "BIOS boot")
        let places = Dictionary(uniqueKeysWithValues: table.partitions.map { ($0.number, $0.range) })
        for growth in [0, 10 * Self.mebibyte, 4096] as [UInt64] {
            let made = try TableEditor.convert(
                captured, table: table, TableConversion(goal: .bios, added: added),
                to: DiskGeometry(byteCount: Self.byteCount + growth), partitions: places, workFolder: scratch.path)
            let path = try write(made, scratch)
            #expect(try run(["sgdisk", "--verify", path.string], "gpt").contains("No problems found"))
            let read = try #require(try GPTReader.read(try BlockDevice(opening: path)))
            #expect(read.partitions.map(\.number) == [1, 2, 3] && read.diskGUID == table.diskGUID)
            #expect(read.usable.lowerBound == 34 * 512)
            #expect(read.partitions.prefix(2).map(\.guid) == table.partitions.map(\.guid))
            #expect(read.partitions.prefix(2).map(\.range) == table.partitions.map(\.range))
            #expect(read.partitions[2].range == candidate.range)
        }
    }

    @Test func whatDoesNotFitIsRefused() throws {
        let scratch = try ScratchFolder()
        let (captured, table) = try captured("label: dos\nstart=2048, size=4096, type=83\n", scratch, "mbr")
        let (_, entries) = TableConverter.gpt(replacing: table, source: DiskGeometry(byteCount: Self.byteCount)) { _ in
            .random()
        }
        let conversion = TableConversion(goal: .uefi, diskGUID: .random(), entries: entries)
        for range in [512 * 20..<512 * 4000, Self.byteCount - 512 * 4096..<Self.byteCount] as [ByteRange] {
            #expect(throws: TableEditError.self) {
                try TableEditor.convert(
                    captured, table: table, conversion, to: DiskGeometry(byteCount: Self.byteCount),
                    partitions: [1: range], workFolder: scratch.path)
            }
        }
        #expect(throws: TableEditError.self) {
            try TableEditor.convert(
                captured, table: table, conversion, to: DiskGeometry(byteCount: 20 * 512), partitions: [:],
                workFolder: scratch.path)
        }
    }
}
