// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskEditing

@Suite struct GPTEditorTests {
    private static let script = """
        label: gpt
        label-id: 11111111-2222-3333-4444-555555555555
        start=2048, size=20480, type=U, uuid=AAAAAAAA-0000-0000-0000-000000000001, name="EFI system", attrs="RequiredPartition"
        start=22528, size=40960, type=L, uuid=AAAAAAAA-0000-0000-0000-000000000002, name="root", attrs="GUID:63"
        start=63488, size=20480, type=S, uuid=AAAAAAAA-0000-0000-0000-000000000003, name="swap"

        """

    /// A disk file with that table, made by an independent tool.
    private func makeDisk(_ scratch: ScratchFolder, mebibytes: UInt64 = 64) throws -> FilePath {
        let path = scratch.path.appending("disk")
        let file = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: mebibytes << 20)
        let output = try ChildProcess.run(["sfdisk", "-q", path.string], input: Array(Self.script.utf8))
        try #require(output.succeeded, "\(output.lastWords)")
        return path
    }

    private func capture(_ path: FilePath) throws -> (CapturedTable, PartitionTable) {
        let disk = try BlockDevice(opening: path)
        let table = try #require(try GPTReader.read(disk))
        return (try CapturedTable(reading: disk, table: table), table)
    }

    private func write(_ table: CapturedTable, _ scratch: ScratchFolder) throws -> FilePath {
        let path = scratch.path.appending("made")
        let file = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: table.byteCount)
        try file.raw.writeAll(toAbsoluteOffset: 0, table.head)
        try file.raw.writeAll(toAbsoluteOffset: Int64(table.tailOffset), table.tail)
        return path
    }

    /// The maximum number of entries: the table is longer than the MiB that a restore writes last.
    @Test func aTableOfManyEntriesMoves() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk")
        let file = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: 64 << 20)
        let script =
            "label: gpt\ntable-length: 8192\nstart=6144, size=2048, type=U\nstart=8192, size=4096, type=L, name=far\n"
        let output = try ChildProcess.run(["sfdisk", "-q", path.string], input: Array(script.utf8))
        try #require(output.succeeded, "\(output.lastWords)")
        let (captured, table) = try capture(path)
        #expect(table.entryCount == 8192 && captured.head.count > 1 << 20 && captured.tail.count > 1 << 20)
        let places: [Int: ByteRange] = [1: table.partitions[0].range, 2: 100 << 20..<120 << 20]
        let made = try TableEditor.relocate(
            captured, kind: .gpt, to: DiskGeometry(byteCount: 128 << 20), partitions: places, workFolder: scratch.path)
        let again = try #require(try GPTReader.read(try BlockDevice(opening: try write(made, scratch))))
        #expect(again.condition == .intact && again.entryCount == 8192 && again.diskGUID == table.diskGUID)
        #expect(again.partitions.map(\.range) == [table.partitions[0].range, 100 << 20..<120 << 20])
        #expect(again.partitions.map(\.name) == table.partitions.map(\.name))
    }

    @Test func aLargerDiskKeepsNamesGUIDsAndAttributes() throws {
        let scratch = try ScratchFolder()
        let (captured, table) = try capture(try makeDisk(scratch))
        let mebibyte: UInt64 = 1 << 20
        let places: [Int: ByteRange] = [
            1: table.partitions[0].range, 2: 11 * mebibyte..<117 * mebibyte, 3: 117 * mebibyte..<127 * mebibyte,
        ]
        let made = try TableEditor.relocate(
            captured, kind: .gpt, to: DiskGeometry(byteCount: 128 * mebibyte), partitions: places,
            workFolder: scratch.path)
        let path = try write(made, scratch)
        let again = try #require(try GPTReader.read(try BlockDevice(opening: path)))
        #expect(again.condition == .intact)
        #expect(again.diskGUID == table.diskGUID)
        for (old, new) in zip(table.partitions, again.partitions) {
            #expect(new.range == places[new.number])
            #expect(new.guid == old.guid && new.name == old.name && new.typeGUID == old.typeGUID)
            #expect(new.attributes == old.attributes)
        }
        // A second opinion on the checksums and both copies.
        let check = try ChildProcess.run(["sgdisk", "-v", path.string])
        #expect(check.text.contains("No problems found"), "\(check.text)")
        let dump = try ChildProcess.run(["sfdisk", "-d", path.string]).text
        #expect(dump.contains("attrs=\"RequiredPartition\"") && dump.contains("attrs=\"GUID:63\""))
    }

    @Test func aSmallerDiskThatStillFitsGetsItsBackupAtItsEnd() throws {
        let scratch = try ScratchFolder()
        let (captured, table) = try capture(try makeDisk(scratch))
        let places = Dictionary(uniqueKeysWithValues: table.partitions.map { ($0.number, $0.range) })
        let made = try TableEditor.relocate(
            captured, kind: .gpt, to: DiskGeometry(byteCount: 48 << 20), partitions: places, workFolder: scratch.path)
        let again = try #require(try GPTReader.read(try BlockDevice(opening: try write(made, scratch))))
        #expect(again.condition == .intact && again.partitions == table.partitions)
    }

    @Test(arguments: [true, false]) func aDamagedCopyIsMended(primary: Bool) throws {
        let scratch = try ScratchFolder()
        let path = try makeDisk(scratch)
        let device = try BlockDevice(opening: path, .exclusiveWrite)
        try device.writeBytes([0xFF, 0xFF], at: primary ? 512 + 40 : device.byteCount - 512 + 40)
        let (captured, table) = try capture(path)
        #expect(table.condition == (primary ? .primaryDamaged : .backupDamaged))
        let places = Dictionary(uniqueKeysWithValues: table.partitions.map { ($0.number, $0.range) })
        let made = try TableEditor.relocate(
            captured, kind: .gpt, to: DiskGeometry(byteCount: 80 << 20), partitions: places, workFolder: scratch.path)
        let again = try #require(try GPTReader.read(try BlockDevice(opening: try write(made, scratch))))
        #expect(again.condition == .intact && again.partitions == table.partitions)
    }

    /// A small image written to a large disk: its backup table is in the middle, and everything behind it is unused.
    @Test(arguments: [48, 200] as [UInt64]) func aBackupInTheMiddleMovesToTheEnd(mebibytes: UInt64) throws {
        let scratch = try ScratchFolder()
        let path = try makeDisk(scratch)
        do {
            let file = try OwnedDescriptor.open(path, .readWrite)
            try Files.resize(file.raw, path.string, to: 128 << 20)
        }
        let (captured, table) = try capture(path)
        #expect(table.condition == .backupDamaged)
        let geometry = DiskGeometry(byteCount: mebibytes << 20)
        #expect(table.backupByteCount(on: DiskGeometry(byteCount: 128 << 20)) == 33 * 512)
        let layout = try LayoutPlanner.plan(
            table, source: DiskGeometry(byteCount: 128 << 20),
            filesystems: [
                2: FilesystemInfo(
                    kind: .ext4, kindName: "ext4", byteCount: table.partitions[1].range.byteCount,
                    mapSource: .allocationStructures)
            ], target: geometry, policy: .grow)
        let places = Dictionary(uniqueKeysWithValues: layout.placements.map { ($0.number, $0.to) })
        #expect(layout.placements[1].isGrown == (mebibytes == 200))
        let made = try TableEditor.relocate(
            captured, kind: .gpt, to: geometry, partitions: places, workFolder: scratch.path)
        let again = try #require(try GPTReader.read(try BlockDevice(opening: try write(made, scratch))))
        #expect(again.condition == .intact)
        #expect(again.partitions.map(\.range) == layout.placements.map(\.to))
    }

    /// A partition behind the end of a smaller disk moves to the front before the end is cut off.
    @Test func aPartitionBehindTheNewEndMovesFirst() throws {
        let scratch = try ScratchFolder()
        let (captured, table) = try capture(try makeDisk(scratch))
        let geometry = DiskGeometry(byteCount: 38 << 20)
        let layout = try LayoutPlanner.plan(
            table, source: DiskGeometry(byteCount: 64 << 20), filesystems: [:],
            abilities: [2: PartitionAbility(leastByteCount: 10 << 20, canGrow: true, canShrink: true)],
            target: geometry, request: LayoutRequest())
        let boundaries = layout.placements.flatMap { [$0.to.lowerBound >> 20, $0.to.upperBound >> 20] }
        #expect(boundaries == [1, 11, 11, 27, 27, 37])
        let places = Dictionary(uniqueKeysWithValues: layout.placements.map { ($0.number, $0.to) })
        let made = try GPTEditor.relocate(captured, to: geometry, partitions: places, workFolder: scratch.path)
        let again = try #require(try GPTReader.read(try BlockDevice(opening: try write(made, scratch))))
        #expect(again.condition == .intact && again.diskGUID == table.diskGUID)
        #expect(again.partitions.map(\.range) == layout.placements.map(\.to))
        #expect(again.partitions.map(\.guid) == table.partitions.map(\.guid))
    }

    @Test func nonsenseIsRefused() throws {
        let scratch = try ScratchFolder()
        let (captured, table) = try capture(try makeDisk(scratch))
        var places = Dictionary(uniqueKeysWithValues: table.partitions.map { ($0.number, $0.range) })
        places[9] = 0..<512
        #expect(throws: TableEditError.self) {
            try TableEditor.relocate(
                captured, kind: .gpt, to: DiskGeometry(byteCount: 80 << 20), partitions: places,
                workFolder: scratch.path)
        }
        var blank = captured
        blank.head = [UInt8](repeating: 0, count: blank.head.count)
        blank.tail = [UInt8](repeating: 0, count: blank.tail.count)
        #expect(throws: TableEditError.self) {
            try TableEditor.relocate(
                blank, kind: .gpt, to: DiskGeometry(byteCount: 80 << 20), partitions: [:], workFolder: scratch.path)
        }
    }
}

@Suite struct GPTMovesTests {
    /// Any layout of the same partitions in the same order, on smaller and larger disks, some left out: libparted must
    /// reach it without overlaps.
    @Test func anyOrderlyMoveWorks() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        for _ in 0..<12 {
            let scratch = try ScratchFolder()
            let count = Int.random(in: 1...8, using: &random)
            let sizes: [UInt64] = [48 << 20, 64 << 20, 96 << 20]
            func draw(_ byteCount: UInt64) -> [ByteRange] {
                let first: UInt64 = 2048
                let last = byteCount / 512 - 34
                var cuts: Set<UInt64> = []
                while cuts.count < count * 2 { cuts.insert(UInt64.random(in: first...last, using: &random)) }
                let sorted = cuts.sorted()
                return (0..<count).map { sorted[$0 * 2] * 512..<sorted[$0 * 2 + 1] * 512 }
            }
            let oldSize = sizes.randomElement(using: &random) ?? sizes[0]
            let newSize = sizes.randomElement(using: &random) ?? sizes[0]
            let (old, new) = (draw(oldSize), draw(newSize))
            let path = scratch.path.appending("disk")
            let file = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: .ownerReadWrite)
            try Files.resize(file.raw, path.string, to: oldSize)
            let script = old.map { "start=\($0.lowerBound / 512), size=\($0.byteCount / 512), type=L" }
            let output = try ChildProcess.run(
                ["sfdisk", "-q", path.string], input: Array("label: gpt\n\(script.joined(separator: "\n"))\n".utf8))
            try #require(output.succeeded, "\(output.lastWords)")
            let disk = try BlockDevice(opening: path)
            let table = try #require(try GPTReader.read(disk))
            var places = Dictionary(uniqueKeysWithValues: zip(table.partitions, new).map { ($0.number, $1) })
            if count > 1, Bool.random(using: &random) { places[Int.random(in: 1...count, using: &random)] = nil }
            let made = try TableEditor.relocate(
                try CapturedTable(reading: disk, table: table), kind: .gpt, to: DiskGeometry(byteCount: newSize),
                partitions: places, workFolder: scratch.path)
            let target = MemoryDisk(byteCount: Int(newSize))
            try target.writeBytes(made.head, at: 0)
            try target.writeBytes(made.tail, at: made.tailOffset)
            let again = try #require(try GPTReader.read(target), "seed \(seed)")
            let kept = table.partitions.filter { places[$0.number] != nil }
            #expect(again.condition == .intact && again.partitions.map(\.guid) == kept.map(\.guid), "seed \(seed)")
            #expect(again.partitions.map(\.range) == kept.map { places[$0.number] }, "seed \(seed)")
        }
    }

    /// libparted turns a hybrid MBR into a plain protective one.
    @Test func aHybridMBRFollowsItsPartitions() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk")
        let file = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: 64 << 20)
        for arguments in [
            ["-n", "1:2048:+8M", "-n", "2:0:+8M", "-n", "3:0:+8M", "-t", "2:0700", "-t", "3:af00"], ["--hybrid=2:3"],
        ] {
            let output = try ChildProcess.run(["sgdisk"] + arguments + [path.string])
            try #require(output.succeeded, "\(output.text)\(output.errorText)")
        }
        let disk = try BlockDevice(opening: path, .exclusiveWrite)
        // The second of the four entries is the one to boot, as another tool would mark it.
        try disk.writeBytes([0x80], at: 446 + 16)
        let table = try #require(try GPTReader.read(disk))
        let captured = try CapturedTable(reading: disk, table: table)
        try #require(HybridMBR.isHybrid(captured.head))
        let mebibyte: UInt64 = 1 << 20
        let places = [1: mebibyte..<9 * mebibyte, 2: 30 * mebibyte..<38 * mebibyte, 3: 40 * mebibyte..<90 * mebibyte]
        let made = try TableEditor.relocate(
            captured, kind: .gpt, to: DiskGeometry(byteCount: 128 << 20), partitions: places, workFolder: scratch.path)
        let target = MemoryDisk(byteCount: 128 << 20)
        try target.writeBytes(made.head, at: 0)
        try target.writeBytes(made.tail, at: made.tailOffset)
        let again = try #require(try GPTReader.read(target))
        #expect(again.condition == .intact && again.partitions.map(\.range) == [1, 2, 3].map { places[$0] })
        // Checked with an independent tool: the GPT is valid, and the MBR lists partitions 2 and 3 at their new places.
        let result = scratch.path.appending("result")
        let copy = try OwnedDescriptor.open(result, .readWrite, options: [.create], permissions: .ownerReadWrite)
        try copy.raw.writeAll(toAbsoluteOffset: 0, target.bytes)
        let check = try ChildProcess.run(["sgdisk", "-v", result.string])
        #expect(check.text.contains("No problems found"), "\(check.text)")
        let entries = try stride(from: 446, to: 510, by: 16).map { at in
            HybridEntry(
                indicator: made.head[at], type: made.head[at + 4],
                start: try made.head.littleEndian(at: at + 8), count: try made.head.littleEndian(at: at + 12))
        }
        let sectors = UInt32(mebibyte / 512)
        #expect(
            entries == [
                // The protective entry of the table ends before the first partition listed beside it.
                HybridEntry(indicator: 0, type: 0xEE, start: 1, count: 30 * sectors - 1),
                HybridEntry(indicator: 0x80, type: 0x07, start: 30 * sectors, count: 8 * sectors),
                HybridEntry(indicator: 0, type: 0xAF, start: 40 * sectors, count: 50 * sectors),
                HybridEntry(indicator: 0, type: 0, start: 0, count: 0),
            ])
        #expect(try made.head.littleEndian(UInt16.self, at: 510) == 0xAA55)
    }

    /// An entry of an MBR (UEFI 2.10 §5.2.1, table 5-2), in sectors.
    private struct HybridEntry: Equatable {
        var indicator: UInt8
        var type: UInt8
        var start: UInt32
        var count: UInt32
    }

    /// More entries than the usual 128, and a partition number above 128.
    @Test func aHighNumberInALongTableStays() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk")
        let file = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: 64 << 20)
        let output = try ChildProcess.run([
            "sgdisk", "--resize-table=256", "-n", "1:4096:+8M", "-t", "1:ef00", "-c", "1:EFI", "-A", "1:set:0",
            "-n", "200:0:+8M", "-t", "200:8300", "-c", "200:far away", "-A", "200:set:63", "-A", "200:set:2",
            "-u", "200:AAAAAAAA-0000-0000-0000-0000000000C8", path.string,
        ])
        try #require(output.succeeded, "\(output.text)\(output.errorText)")
        let disk = try BlockDevice(opening: path)
        let table = try #require(try GPTReader.read(disk))
        try #require(table.entryCount == 256 && table.partitions.map(\.number) == [1, 200])
        let mebibyte: UInt64 = 1 << 20
        let places = [1: 3 * mebibyte..<11 * mebibyte, 200: 50 * mebibyte..<90 * mebibyte]
        let made = try TableEditor.relocate(
            try CapturedTable(reading: disk, table: table), kind: .gpt, to: DiskGeometry(byteCount: 100 * mebibyte),
            partitions: places, workFolder: scratch.path)
        let result = scratch.path.appending("result")
        do {
            let copy = try OwnedDescriptor.open(result, .readWrite, options: [.create], permissions: .ownerReadWrite)
            try Files.resize(copy.raw, result.string, to: made.byteCount)
            try copy.raw.writeAll(toAbsoluteOffset: 0, made.head)
            try copy.raw.writeAll(toAbsoluteOffset: Int64(made.tailOffset), made.tail)
        }
        let again = try #require(try GPTReader.read(try BlockDevice(opening: result)))
        #expect(again.condition == .intact && again.entryCount == 256 && again.diskGUID == table.diskGUID)
        let moved = table.partitions.map { old in
            var new = old
            new.range = places[old.number] ?? 0..<0
            return new
        }
        #expect(again.partitions == moved)
        // Checked with independent tools.
        let check = try ChildProcess.run(["sgdisk", "-v", "-i", "200", result.string]).text
        for line in [
            "No problems found", "Partition unique GUID: AAAAAAAA-0000-0000-0000-0000000000C8",
            "First sector: 102400 ", "Last sector: 184319 ", "Attribute flags: 8000000000000004",
            "Partition name: 'far away'",
        ] { #expect(check.contains(line), "\(check)") }
        let dump = try ChildProcess.run(["sfdisk", "-d", result.string]).text
        #expect(dump.contains("table-length: 256") && dump.contains("attrs=\"LegacyBIOSBootable GUID:63\""), "\(dump)")
    }
}
