// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskEditing

/// A GPT for a disk with another sector size. Checked with sfdisk and sgdisk on loop devices with that size.
@Suite(.enabled(if: geteuid() == 0 && ChildProcess.canFind("sgdisk"), "needs root and gdisk"))
struct GPTUnitsTests {
    private static let seed = Sample.seed()
    private static let mebibyte: UInt64 = 1 << 20

    private struct Made {
        var text: String
        var geometry: DiskGeometry
    }

    /// A random table as sfdisk's script, in sectors of the disk.
    private func script(_ random: inout SeededGenerator, sector: UInt64, byteCount: UInt64) -> String {
        var text = "label: gpt\nlabel-id: \(guid(&random))\n"
        if Bool.random(using: &random) {
            text += "table-length: \([128, 136, 256].randomElement(using: &random) ?? 128)\n"
        }
        var position = Self.mebibyte
        var number = 1
        while position < byteCount - 8 * Self.mebibyte, number < 12 {
            position += UInt64.random(in: 0...3, using: &random) * 8 * 4096
            let length = UInt64.random(in: 1...500, using: &random) * 4096
            let name =
                ["root ä", "EFI system partition", "", "Basic data partition"].randomElement(using: &random) ?? ""
            let attributes = ["", "RequiredPartition", "LegacyBIOSBootable GUID:63", "GUID:60,62"]
            text += "\(number) : start=\(position / sector), size=\(length / sector), uuid=\(guid(&random))"
            text += ", type=\(["U", "L", "S", guid(&random)].randomElement(using: &random) ?? "L"), name=\"\(name)\""
            text += ", attrs=\"\(attributes.randomElement(using: &random) ?? "")\"\n"
            position += length
            number += Int.random(in: 1...2, using: &random)
        }
        return text
    }

    private func guid(_ random: inout SeededGenerator) -> String {
        let digits = (0..<32).map { _ in String(Int.random(in: 1...15, using: &random), radix: 16) }.joined()
        var text = ""
        for (index, digit) in digits.enumerated() {
            if [8, 12, 16, 20].contains(index) { text += "-" }
            text.append(digit)
        }
        return text.uppercased()
    }

    private func run(_ arguments: [String], input: String = "") throws -> String {
        let output = try ChildProcess.run(arguments, input: Array(input.utf8))
        try #require(output.succeeded, "\(arguments.joined(separator: " ")): \(output.lastWords) seed \(Self.seed)")
        return output.text
    }

    private func file(_ scratch: ScratchFolder, _ name: String, _ byteCount: UInt64) throws -> FilePath {
        let path = scratch.path.appending(name)
        let file = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: byteCount)
        return path
    }

    /// sfdisk's dump of a table, without the parts that depend on the unit and the device's name.
    private func dump(_ node: FilePath) throws -> [String] {
        try run(["sfdisk", "-d", node.string]).split(separator: "\n").compactMap { line in
            if ["device:", "unit:", "first-lba:", "last-lba:", "sector-size:"].contains(where: { line.hasPrefix($0) }) {
                return nil
            }
            return line.replacing(node.string, with: "disk").split(separator: ",")
                .filter { !$0.contains("start=") && !$0.contains("size=") }.joined(separator: ",")
        }
    }

    @Test(arguments: 0..<8) func bothWaysEverythingIsKept(index: Int) throws {
        var random = SeededGenerator(seed: Self.seed &+ UInt64(index))
        let comment: Comment = "seed \(Self.seed), case \(index)"
        let scratch = try ScratchFolder()
        let from = index % 2 == 0 ? 512 : 4096
        let to = 4608 - from
        let sourceByteCount = 40 * Self.mebibyte
        let source = try file(scratch, "source", sourceByteCount)
        let captured: CapturedTable
        let table: PartitionTable
        let wanted: [String]
        do {
            let loop = try LoopDevice(over: source, range: 0..<sourceByteCount, sectorSize: from)
            let text = script(&random, sector: UInt64(from), byteCount: sourceByteCount)
            _ = try run(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", loop.path.string], input: text)
            wanted = try dump(loop.path)
            let damage = index / 2 % 3
            let disk = try BlockDevice(opening: loop.path, .exclusiveWrite)
            // The primary header, or that of the backup.
            if damage == 1 { try disk.writeBytes([0xFF, 0xFF], at: UInt64(from) + 40) }
            if damage == 2 { try disk.writeBytes([0xFF, 0xFF], at: sourceByteCount - UInt64(from) + 40) }
            try disk.flush()
            table = try #require(try GPTReader.read(disk), comment)
            #expect(table.condition == [.intact, .primaryDamaged, .backupDamaged][damage], comment)
            captured = try CapturedTable(reading: disk, table: table)
        }
        // Everything moves by some sectors of 4 KiB, and the target has a different length.
        let shift = UInt64.random(in: 0...9, using: &random) * 4096
        let places = Dictionary(
            uniqueKeysWithValues: table.partitions.map {
                ($0.number, $0.range.lowerBound + shift..<$0.range.upperBound + shift)
            })
        let geometry = DiskGeometry(
            byteCount: 40 * Self.mebibyte + UInt64.random(in: 0...4, using: &random) * Self.mebibyte,
            logicalSectorSize: to, physicalSectorSize: to)
        let made = try TableEditor.relocate(
            captured, kind: .gpt, to: geometry, partitions: places, workFolder: scratch.path)
        #expect(made.sectorSize == to && made.byteCount == geometry.byteCount, comment)
        let target = try file(scratch, "target", geometry.byteCount)
        let loop = try LoopDevice(over: target, range: 0..<geometry.byteCount, sectorSize: to)
        let disk = try BlockDevice(opening: loop.path, .exclusiveWrite)
        try disk.writeBytes(made.head, at: 0)
        try disk.writeBytes(made.tail, at: made.tailOffset)
        try disk.flush()
        let again = try #require(try GPTReader.read(disk), comment)
        #expect(again.condition == .intact && again.diskGUID == table.diskGUID, comment)
        #expect(again.entryCount == table.entryCount, comment)
        for (old, new) in zip(table.partitions, again.partitions) {
            var moved = old
            moved.range = places[old.number] ?? 0..<0
            #expect(moved == new, comment)
        }
        #expect(try dump(loop.path) == wanted, comment)
        #expect(try run(["sgdisk", "-v", loop.path.string]).contains("No problems found"), comment)
        #expect(try run(["sfdisk", "--verify", loop.path.string]).contains("No errors detected"), comment)
    }

    @Test func whatHasNoPlaceThereIsRefused() throws {
        let scratch = try ScratchFolder()
        let path = try file(scratch, "disk", 20 << 20)
        _ = try run(
            ["sfdisk", "-q", path.string],
            input: "label: gpt\nstart=2048, size=2049\nstart=6144, size=2048, name=\"b\"\n")
        let disk = try BlockDevice(opening: path)
        let table = try #require(try GPTReader.read(disk))
        let captured = try CapturedTable(reading: disk, table: table)
        let geometry = DiskGeometry(byteCount: 20 << 20, logicalSectorSize: 4096)
        func make(_ first: ByteRange, _ geometry: DiskGeometry) throws(TableEditError) -> CapturedTable {
            try TableEditor.relocate(
                captured, kind: .gpt, to: geometry, partitions: [1: first], workFolder: scratch.path)
        }
        // Half of a sector; in the table's own place; behind the end.
        let mebibyte: UInt64 = 1 << 20
        for range in [
            mebibyte..<mebibyte + 2049 * 512, 4 * 4096..<8 * 4096, mebibyte..<20 * mebibyte, 0..<4096,
        ] as [ByteRange] {
            #expect(throws: TableEditError.self) { try make(range, geometry) }
        }
        #expect(throws: TableEditError.self) {
            try make(mebibyte..<2 * mebibyte, DiskGeometry(byteCount: 40 << 10, logicalSectorSize: 4096))
        }
        // The other one is left out, as with equal sector sizes.
        let made = try make(mebibyte..<mebibyte + 257 * 4096, geometry)
        let head = MemoryDisk(
            made.head + [UInt8](repeating: 0, count: (20 << 20) - made.head.count - made.tail.count)
                + made.tail, logicalSectorSize: 4096)
        #expect(try GPTReader.read(head)?.partitions.map(\.number) == [1])
    }
}
