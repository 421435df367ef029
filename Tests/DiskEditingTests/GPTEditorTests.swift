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

    /// A disk file with that table, made by somebody else's tool.
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

    @Test func aLargerDiskKeepsNamesGUIDsAndAttributes() throws {
        let scratch = try ScratchFolder()
        let (captured, table) = try capture(try makeDisk(scratch))
        let mebibyte: UInt64 = 1 << 20
        let places: [Int: ByteRange] = [
            1: table.partitions[0].range, 2: 11 * mebibyte..<117 * mebibyte, 3: 117 * mebibyte..<127 * mebibyte,
        ]
        let made = try GPTEditor.relocate(
            captured, to: DiskGeometry(byteCount: 128 * mebibyte), partitions: places, workFolder: scratch.path)
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
        let made = try GPTEditor.relocate(
            captured, to: DiskGeometry(byteCount: 48 << 20), partitions: places, workFolder: scratch.path)
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
        let made = try GPTEditor.relocate(
            captured, to: DiskGeometry(byteCount: 80 << 20), partitions: places, workFolder: scratch.path)
        let again = try #require(try GPTReader.read(try BlockDevice(opening: try write(made, scratch))))
        #expect(again.condition == .intact && again.partitions == table.partitions)
    }

    /// A small image written onto a large disk: its backup table lies in the middle, and everything behind it is unused.
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
        let made = try GPTEditor.relocate(captured, to: geometry, partitions: places, workFolder: scratch.path)
        let again = try #require(try GPTReader.read(try BlockDevice(opening: try write(made, scratch))))
        #expect(again.condition == .intact)
        #expect(again.partitions.map(\.range) == layout.placements.map(\.to))
    }

    @Test func nonsenseIsRefused() throws {
        let scratch = try ScratchFolder()
        let (captured, table) = try capture(try makeDisk(scratch))
        var places = Dictionary(uniqueKeysWithValues: table.partitions.map { ($0.number, $0.range) })
        places[9] = 0..<512
        #expect(throws: TableEditError.self) {
            try GPTEditor.relocate(
                captured, to: DiskGeometry(byteCount: 80 << 20), partitions: places, workFolder: scratch.path)
        }
        var blank = captured
        blank.head = [UInt8](repeating: 0, count: blank.head.count)
        blank.tail = [UInt8](repeating: 0, count: blank.tail.count)
        #expect(throws: TableEditError.self) {
            try GPTEditor.relocate(
                blank, to: DiskGeometry(byteCount: 80 << 20), partitions: [:], workFolder: scratch.path)
        }
    }
}
