// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

@Suite struct PartitionTableTests {
    @Test(arguments: [(512, 128, 128), (4096, 128, 128), (512, 200, 256), (4096, 16, 128), (512, 1024, 128)])
    func bothCopiesAreRead(sectorSize: Int, entryCount: Int, entrySize: Int) throws {
        var fixture = GPTFixture(sectorSize: sectorSize, entryCount: entryCount, entrySize: entrySize)
        fixture.partitions = [(300, 400), (401, 900)]
        let unit = UInt64(sectorSize)
        let table = try PartitionTableReader.read(try fixture.disk())
        #expect(table.kind == .gpt && table.condition == .intact && table.entryCount == entryCount)
        #expect(table.diskGUID?.description == GPTFixture.diskGUID)
        #expect(table.usable == fixture.firstUsable * unit..<(fixture.lastUsable + 1) * unit)
        #expect(table.partitions.map(\.range) == [300 * unit..<401 * unit, 401 * unit..<901 * unit])
        #expect(table.partitions.map(\.name) == ["päärt 0", "päärt 1"])
        #expect(table.partitions.map(\.attributes) == [1 << 60, 1 << 60])
        #expect(table.partitions.map(\.number) == [1, 2])

        var damaged = try fixture.bytes()
        damaged[sectorSize + 60] ^= 1
        var expected = table
        expected.condition = .primaryDamaged
        #expect(try PartitionTableReader.read(MemoryDisk(damaged, logicalSectorSize: sectorSize)) == expected)
        damaged = try fixture.bytes()
        damaged[2 * sectorSize + 60] ^= 1
        #expect(try PartitionTableReader.read(MemoryDisk(damaged, logicalSectorSize: sectorSize)) == expected)
        damaged[damaged.count - sectorSize] ^= 1
        let unknown = try PartitionTableReader.read(MemoryDisk(damaged, logicalSectorSize: sectorSize))
        #expect(unknown.kind == .unknown && unknown.unknownKindName == "GPT with both copies damaged")
        damaged = try fixture.bytes()
        damaged[damaged.count - sectorSize] ^= 1
        expected.condition = .backupDamaged
        #expect(try PartitionTableReader.read(MemoryDisk(damaged, logicalSectorSize: sectorSize)) == expected)
    }

    @Test func theTableOfASmallerDiskIsReported() throws {
        let bytes = try GPTFixture().bytes() + [UInt8](repeating: 0, count: 1 << 20)
        #expect(try PartitionTableReader.read(MemoryDisk(bytes)).condition == .backupDamaged)
        // Truncated: its usable range is no longer valid, and the backup is gone.
        let cut = Array(try GPTFixture().bytes().dropLast(1 << 20))
        #expect(
            try PartitionTableReader.read(MemoryDisk(cut)).unknownKindName
                == "GPT of a longer disk: its partitions may go up to sector 4062, and this disk has 2048")
    }

    /// A table with correct checksums is not called damaged.
    @Test func whatIsNotFollowedIsNamed() throws {
        func name(_ change: (inout GPTFixture) -> Void) throws -> String? {
            var fixture = GPTFixture(sectorCount: 16384)
            fixture.partitions = [(3000, 3099), (3100, 3999)]
            change(&fixture)
            let table = try PartitionTableReader.read(try fixture.disk())
            return table.kind == .unknown ? table.unknownKindName : "\(table.kind)"
        }
        #expect(try name { _ in } == "gpt")
        #expect(
            try name { $0.partitions = [(3000, 3099), (4000, 4999), (4500, 5000)] }
                == "GPT whose partitions 2 and 3 overlap")
        #expect(
            try name { $0.partitions = [(3000, 3099), (16000, 16380)] }
                == "GPT whose partition 2 lies outside of the range for partitions")
        // As many as fit 1 MiB are followed, at either end of the disk.
        #expect(try name { $0.entryCount = 8192 } == "gpt")
        let more = try name { ($0.entryCount, $0.partitions) = (8193, [(3000, 3099)]) }
        #expect(more?.hasPrefix("GPT with 8193 entries of 128 bytes") == true, "\(more ?? "none")")
        // The backup is another table: firmware uses the primary, so the backup is never used.
        var bytes = try GPTFixture().bytes()
        bytes.setLittleEndian(UInt64(100), at: 2 * 512 + 128 + 32)
        GPTFixture().fixCopy(&bytes, at: 512)
        #expect(
            try PartitionTableReader.read(MemoryDisk(bytes)).unknownKindName == "GPT whose partitions 1 and 2 overlap")
    }

    @Test func withoutTheProtectiveMBRThereIsNoGPT() throws {
        var bytes = try GPTFixture().bytes()
        for index in 0..<512 { bytes[index] = 0 }
        let table = try PartitionTableReader.read(MemoryDisk(bytes))
        #expect(table.kind == .unknown && table.unknownKindName == "GPT without its protective MBR")
        // The state of an interrupted restore: LBA 0 and the backup are blank.
        bytes[bytes.count - 512] = 0
        #expect(try PartitionTableReader.read(MemoryDisk(bytes)).kind == .unknown)
        #expect(try GPTReader.read(MemoryDisk(bytes)) == nil)
    }

    @Test func otherSectorsAreNamed() throws {
        let bytes = try GPTFixture(sectorSize: 4096).bytes()
        #expect(
            try PartitionTableReader.read(MemoryDisk(bytes)).unknownKindName == "GPT of a disk with 4096-byte sectors")
        let small = try GPTFixture().bytes()
        // A file does not state its sector size: the valid table counts.
        #expect(try ResectoredReader.guessed(MemoryDisk(bytes)).logicalSectorSize == 4096)
        #expect(try ResectoredReader.guessed(MemoryDisk(small)).logicalSectorSize == 512)
        let table = try PartitionTableReader.read(MemoryDisk(small, logicalSectorSize: 4096))
        #expect(table.unknownKindName == "GPT of a disk with 512-byte sectors")
    }

    @Test(
        arguments: [
            [(64, 127), (127, 1023)], [(64, 63)], [(2, 127)], [(64, 4095)], [(64, UInt64.max)], [(.max, .max)],
        ] as [[(UInt64, UInt64)]])
    func impossiblePlacesAreDamage(places: [(UInt64, UInt64)]) throws {
        var fixture = GPTFixture()
        fixture.partitions = places
        #expect(try GPTReader.read(try fixture.disk()) == nil)
    }

    @Test func nothingAndOthersAreToldApart() throws {
        #expect(try PartitionTableReader.read(MemoryDisk(byteCount: 0)).kind == .none)
        #expect(try PartitionTableReader.read(MemoryDisk(byteCount: 100)).kind == .none)
        #expect(try PartitionTableReader.read(MemoryDisk(byteCount: 4 << 20)).kind == .none)
        var bytes = [UInt8](repeating: 0, count: 4 << 20)
        bytes[4096] = 1
        #expect(try PartitionTableReader.read(MemoryDisk(bytes)).kind == .unknown)
        bytes[446 + 4] = 0x83
        bytes.setLittleEndian(UInt32(2048), at: 446 + 8)
        bytes.setLittleEndian(UInt32(2048), at: 446 + 12)
        bytes.setLittleEndian(UInt16(0xAA55), at: 510)
        let table = try PartitionTableReader.read(MemoryDisk(bytes))
        #expect(table.kind == .mbr && table.partitions.map(\.range) == [1 << 20..<2 << 20])
        // Past the end of the disk.
        bytes.setLittleEndian(UInt32(8192), at: 446 + 12)
        let past = try PartitionTableReader.read(MemoryDisk(bytes))
        #expect(past.kind == .unknown && past.unknownKindName == "MBR whose partition 1 ends past the disk")
    }

    @Test func aReadErrorIsAnError() throws {
        let disk = try GPTFixture().disk()
        disk.makeUnreadable(0..<512)
        #expect(throws: BlockIOError.self) { try PartitionTableReader.read(disk) }
    }
}

@Suite(.enabled(if: Tool.have("sfdisk", "sgdisk"), "needs sfdisk and sgdisk"))
struct PartitionToolTests {
    private func read(_ image: FilePath) throws -> PartitionTable {
        try PartitionTableReader.read(try BlockDevice(opening: image))
    }

    @Test func tableOfSfdisk() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 256 << 20)
        let script = """
            label: gpt
            label-id: 0FC63DAF-8483-4772-8E79-3D69D8477DE5
            size=65536, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=EFI, uuid=11111111-8483-4772-8E79-3D69D8477DE5
            start=67584, size=204800, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name="root", attrs="LegacyBIOSBootable"

            """
        try Tool.run(["sfdisk", "-q", image.string], input: script)
        let table = try read(image)
        #expect(table.kind == .gpt && table.condition == .intact && table.entryCount == 128)
        #expect(table.diskGUID?.description == "0fc63daf-8483-4772-8e79-3d69d8477de5")
        let usable: ByteRange = 1 << 20..<(256 << 20) - 33 * 512
        #expect(table.usable == usable)
        #expect(table.partitions.map(\.name) == ["EFI", "root"])
        #expect(table.partitions.map(\.range) == [1 << 20..<33 << 20, 33 << 20..<133 << 20])
        #expect(table.partitions.first?.guid.description == "11111111-8483-4772-8e79-3d69d8477de5")
        #expect(table.partitions.last?.attributes == 4)
    }

    @Test func moreEntriesAndAHybridMBR() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 64 << 20)
        try Tool.run([
            "sgdisk", "--resize-table=256", "-n", "1:4096:+8M", "-n", "200:0:+8M", "-c", "200:far", image.string,
        ])
        try Tool.run(["sgdisk", "--hybrid=1", image.string])
        let table = try read(image)
        #expect(table.kind == .gpt && table.condition == .intact && table.entryCount == 256)
        #expect(table.partitions.map(\.number) == [1, 200])
        #expect(table.partitions.last?.name == "far")
    }
}
