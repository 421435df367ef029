// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskEditing

@Suite struct MBREditorTests {
    private static let script = """
        label: dos
        label-id: 0x1234abcd
        start=2048, size=20480, type=7, bootable
        start=24576, size=65536, type=f
        start=26624, size=8192, type=82
        start=36864, size=20480, type=83
        start=120000, size=8000, type=c

        """

    private func makeDisk(_ scratch: ScratchFolder, _ script: String = script) throws -> (CapturedTable, PartitionTable)
    {
        let path = scratch.path.appending("disk")
        let file = try OwnedDescriptor.open(
            path, .readWrite, options: [.create, .truncate], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: 64 << 20)
        let output = try ChildProcess.run(["sfdisk", "-q", path.string], input: Array(script.utf8))
        try #require(output.succeeded, "\(output.lastWords)")
        let disk = try BlockDevice(opening: path, .exclusiveWrite)
        // Boot code and the data between it and the entries.
        try disk.writeBytes(
            (0..<446).map { $0 >= 440 && $0 < 444 ? [0xCD, 0xAB, 0x34, 0x12][$0 - 440] : UInt8($0 & 0xFF) }, at: 0)
        let table = try #require(try MBRReader.read(disk))
        return (try CapturedTable(reading: disk, table: table), table)
    }

    private func write(_ table: CapturedTable, _ scratch: ScratchFolder) throws -> FilePath {
        let path = scratch.path.appending("made")
        let file = try OwnedDescriptor.open(
            path, .readWrite, options: [.create, .truncate], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: table.byteCount)
        try file.raw.writeAll(toAbsoluteOffset: 0, table.head)
        for record in table.records { try file.raw.writeAll(toAbsoluteOffset: Int64(record.offset), record.bytes) }
        return path
    }

    /// Larger with everything grown or moved; smaller with everything packed; one logical partition left out.
    @Test(arguments: [0, 1, 2]) func typesFlagsAndBootCodeStay(_ way: Int) throws {
        let scratch = try ScratchFolder()
        let (captured, table) = try makeDisk(scratch)
        let mebibyte: UInt64 = 1 << 20
        var places: [Int: ByteRange] =
            way == 0
            ? [
                1: mebibyte..<11 * mebibyte, 2: 12 * mebibyte..<90 * mebibyte, 5: 13 * mebibyte..<17 * mebibyte,
                6: 20 * mebibyte..<90 * mebibyte, 3: 100 * mebibyte..<104 * mebibyte,
            ]
            : [
                1: mebibyte..<6 * mebibyte, 2: 6 * mebibyte..<20 * mebibyte, 5: 7 * mebibyte..<11 * mebibyte,
                6: 12 * mebibyte..<20 * mebibyte, 3: 20 * mebibyte..<24 * mebibyte,
            ]
        if way == 2 { places[5] = nil }
        let byteCount = way == 0 ? 128 * mebibyte : 32 * mebibyte
        let made = try TableEditor.relocate(
            captured, kind: .mbr, to: DiskGeometry(byteCount: byteCount), partitions: places, workFolder: scratch.path)
        let path = try write(made, scratch)
        let again = try #require(try MBRReader.read(try BlockDevice(opening: path)))
        #expect(again.diskSignature == table.diskSignature)
        let kept = table.partitions.filter { places[$0.number] != nil }
        #expect(again.partitions.map(\.range) == kept.map { places[$0.number] })
        #expect(again.partitions.map(\.mbr?.type) == kept.map(\.mbr?.type))
        #expect(again.partitions.map(\.mbr?.isActive) == kept.map(\.mbr?.isActive))
        #expect(made.head[0..<446] == captured.head[0..<446])
        let check = try ChildProcess.run(["sfdisk", "-V", path.string])
        #expect(check.text.contains("No errors detected"), "\(check.text)\(check.errorText)")
    }

    /// `sfdisk -d` of a table, one line a partition: number, start, size and type in sectors.
    private func dump(_ path: FilePath) throws -> [String] {
        let output = try ChildProcess.run(["sfdisk", "-d", path.string])
        try #require(output.succeeded, "\(output.lastWords)")
        return output.text.split(separator: "\n").filter { $0.hasPrefix(path.string) }.map { line in
            line.dropFirst(path.string.count).split { " ,:".contains($0) }
                .map { $0.drop { !$0.isNumber && !$0.isLetter } }.joined(separator: " ")
        }
    }

    /// Logical partitions numbered in another order than their places, as fdisk leaves them after one was deleted and
    /// created again: `sfdisk -d` finds the same numbers at the new places.
    @Test(arguments: [false, true]) func numbersStayWhereTheyAreNotInOrder(_ isSmaller: Bool) throws {
        let scratch = try ScratchFolder()
        let (captured, table) = try makeDisk(
            scratch,
            """
            label: dos
            start=2048, size=65536, type=5
            start=40960, size=4096, type=83
            start=4096, size=2048, type=82
            start=20480, size=6144, type=7, bootable

            """)
        try #require(table.partitions.map(\.number) == [1, 5, 6, 7])
        try #require(table.partitions[1].range.lowerBound > table.partitions[2].range.lowerBound)
        let mebibyte: UInt64 = 1 << 20
        let byteCount = isSmaller ? 20 * mebibyte : 128 * mebibyte
        let plan = try LayoutPlanner.plan(
            table, source: DiskGeometry(byteCount: 64 << 20), filesystems: [:],
            abilities: [5: PartitionAbility(leastByteCount: mebibyte, canGrow: true, canShrink: true)],
            target: DiskGeometry(byteCount: byteCount), request: LayoutRequest(policy: .grow))
        let places = Dictionary(uniqueKeysWithValues: plan.placements.map { ($0.number, $0.to) })
        try #require(places[5] != table.partitions[1].range)
        let made = try TableEditor.relocate(
            captured, kind: .mbr, to: DiskGeometry(byteCount: byteCount), partitions: places, workFolder: scratch.path)
        let path = try write(made, scratch)
        let expected = table.partitions.map { partition -> String in
            let place = places[partition.number] ?? 0..<0
            return
                "\(partition.number) start \(place.lowerBound / 512) size \(place.byteCount / 512) "
                + "type \(String(partition.mbr?.type ?? 0, radix: 16))"
                + (partition.mbr?.isActive == true ? " bootable" : "")
        }
        #expect(
            try dump(path).map { $0.split(separator: " ").joined(separator: " ") }
                == expected.map { line in
                    line.replacing("start ", with: "start= ").replacing("size ", with: "size= ").replacing(
                        "type ", with: "type=")
                })
        let check = try ChildProcess.run(["sfdisk", "-V", path.string])
        #expect(check.text.contains("No errors detected"), "\(check.text)\(check.errorText)")
    }

    /// As many as libparted numbers, and more: each at another place with another length.
    @Test(arguments: [60, 90]) func manyLogicalPartitionsKeepTypesAndFlags(_ count: Int) throws {
        let scratch = try ScratchFolder()
        let disk = MemoryDisk(LogicalChain.disk(count))
        let table = try #require(try MBRReader.read(disk))
        try #require(table.partitions.map(\.number) == [1, 2] + Array(5...4 + count))
        let mebibyte: UInt64 = 1 << 20
        var places: [Int: ByteRange] = [1: mebibyte..<8 * mebibyte, 2: 8 * mebibyte..<60 * mebibyte]
        for partition in table.partitions where partition.mbr?.role == .logical {
            let start = 8 * mebibyte + UInt64(partition.number - 5) * 500 * 1024
            places[partition.number] = start + 64 * 512..<start + 64 * 512 + partition.range.byteCount * 3
        }
        let made = try TableEditor.relocate(
            try CapturedTable(reading: disk, table: table), kind: .mbr, to: DiskGeometry(byteCount: 64 * mebibyte),
            partitions: places, workFolder: scratch.path)
        let path = try write(made, scratch)
        let again = try #require(try MBRReader.read(try BlockDevice(opening: path)))
        #expect(again.diskSignature == table.diskSignature && again.bootRecords?.count == count)
        #expect(again.partitions.map(\.number) == table.partitions.map(\.number))
        #expect(again.partitions.map(\.range) == table.partitions.map { places[$0.number] })
        #expect(again.partitions.map(\.mbr?.role) == table.partitions.map(\.mbr?.role))
        #expect(again.partitions.map(\.mbr?.type) == table.partitions.map(\.mbr?.type))
        #expect(again.partitions.map(\.mbr?.isActive) == table.partitions.map(\.mbr?.isActive))
        // A second opinion: libblkid follows more of them than sfdisk does.
        let output = try ChildProcess.run(["partx", "-g", "-o", "NR,START,SECTORS,TYPE", path.string])
        try #require(output.succeeded, "\(output.lastWords)")
        let theirs = output.text.split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
        let ours = again.partitions.map { partition in
            "\(partition.number) \(partition.range.lowerBound / 512) \(partition.range.byteCount / 512) "
                + "0x\(String(partition.mbr?.type ?? 0, radix: 16))"
        }
        #expect(theirs == ours)
    }

    @Test func randomTablesMoveAndComeOutRight() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        for _ in 0..<12 {
            let scratch = try ScratchFolder()
            // A random table, and a new layout of the same partitions with other sizes.
            func draw(_ types: [String], logicals: Int, leastGap: UInt64) -> [(
                start: UInt64, size: UInt64, type: String
            )] {
                var sector = 2048 + UInt64.random(in: 0...3000, using: &random)
                var rows: [(start: UInt64, size: UInt64, type: String)] = []
                for type in types {
                    let size = UInt64.random(in: 1...9000, using: &random)
                    rows.append((sector, size, type))
                    sector += size + UInt64.random(in: 0...3000, using: &random)
                }
                guard logicals > 0 else { return rows }
                let start = sector
                var inner: [(start: UInt64, size: UInt64, type: String)] = []
                for _ in 0..<logicals {
                    sector += UInt64.random(in: leastGap...3000, using: &random)
                    let size = UInt64.random(in: 1...4000, using: &random)
                    inner.append((sector, size, "83"))
                    sector += size
                }
                return rows + [(start, sector - start, "5")] + inner
            }
            let types = (0..<Int.random(in: 1...3, using: &random)).map { _ in
                ["83", "7", "c", "82"].randomElement(using: &random) ?? "83"
            }
            let logicals = Int.random(in: 0...8, using: &random)
            // sfdisk leaves a MiB before each logical partition; one sector is enough.
            let before = draw(types, logicals: logicals, leastGap: 2048)
            let after = draw(types, logicals: logicals, leastGap: 1)
            let script = before.map { "start=\($0.start), size=\($0.size), type=\($0.type)" }
            let (captured, table) = try makeDisk(scratch, "label: dos\n" + script.joined(separator: "\n") + "\n")
            try #require(table.partitions.count == after.count, "seed \(seed)")
            let places = Dictionary(
                uniqueKeysWithValues: zip(table.partitions, after).map {
                    ($0.number, $1.start * 512..<($1.start + $1.size) * 512)
                })
            let made = try TableEditor.relocate(
                captured, kind: .mbr, to: DiskGeometry(byteCount: 48 << 20), partitions: places,
                workFolder: scratch.path)
            let path = try write(made, scratch)
            let again = try #require(try MBRReader.read(try BlockDevice(opening: path)))
            #expect(again.partitions.map(\.range) == table.partitions.map { places[$0.number] }, "seed \(seed)")
        }
    }
}
