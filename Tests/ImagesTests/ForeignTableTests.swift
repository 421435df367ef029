// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskImages
@testable import ImageFiles
@testable import ImageModel

/// Partition tables made from the dumps in folders of other tools, judged by sfdisk and sgdisk.
@Suite struct ForeignTableTests {
    static let diskGUID = "5EED0001-0000-4000-8000-000000000001"

    static let gpt = """
        label: gpt
        label-id: \(diskGUID)
        start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, uuid=5EED0002-0000-4000-8000-000000000002
        start=4096, size=32768, type=U, name="EFI \\x22system\\x22 \\x5c $HOME päth", attrs="RequiredPartition LegacyBIOSBootable GUID:60,63"
        start=40960, size=10000, type=L, name=root
        5 : start=65536, size=2048, type=S
        """

    @Test func aGPTIsMadeAsItWas() throws {
        let fixture = try ForeignFolderFixture(Self.gpt, byteCount: 64 << 20)
        try fixture.saveAsClonezilla(parts: "sda1 sda2 sda3")
        let disk = try fixture.clonezilla()
        let made = try fixture.made(disk)
        #expect(try ForeignFolderFixture.dump(made) == ForeignFolderFixture.dump(fixture.source))
        #expect(try ToolFile.run(["sgdisk", "-v", made.string]).text.contains("No problems found"))
        // All copies, byte for byte.
        #expect(try ForeignFolderFixture.bytes(made, 0, 34 * 512) == fixture.bytes(0, 34 * 512))
        let tail = fixture.byteCount - 33 * 512
        #expect(try ForeignFolderFixture.bytes(made, tail, 33 * 512) == fixture.bytes(tail, 33 * 512))
        #expect(disk.geometry == DiskGeometry(byteCount: 64 << 20, physicalSectorSize: 4096))
        #expect(disk.identity.model == "ATA QEMU HARDDISK" && disk.identity.kernelName == "sda")
    }

    /// Without the saved first sectors and without the disk's length, the dump is enough.
    @Test func aDumpAloneIsEnough() throws {
        let fixture = try ForeignFolderFixture(Self.gpt, byteCount: 64 << 20)
        try fixture.saveAsClonezilla()
        for name in ["sda-gpt-1st", "sda-gpt-2nd", "sda-mbr", "sda-pt.parted"] { try fixture.remove(name) }
        let disk = try fixture.clonezilla()
        #expect(disk.geometry.byteCount <= 64 << 20)
        #expect(disk.warnings.contains { $0.contains("the length of sda was not saved") })
        let made = try fixture.made(disk)
        #expect(try ForeignFolderFixture.dump(made) == ForeignFolderFixture.dump(fixture.source))
        #expect(try ToolFile.run(["sgdisk", "-v", made.string]).text.contains("No problems found"))
    }

    /// An sfdisk before 2.26 shows a GPT as its protective MBR: the saved first sectors have the table.
    @Test func aDumpOfAnOldProgramHasNoGPT() throws {
        let fixture = try ForeignFolderFixture(Self.gpt, byteCount: 64 << 20)
        try fixture.saveAsClonezilla()
        let dump = try ForeignFolderFixture.dump(fixture.source)
        try fixture.write(
            "sda-pt.sf",
            "# partition table of /dev/sda\nunit: sectors\n\n/dev/sda1 : start=        1, size=   131071, Id=ee\n"
                + "/dev/sda2 : start=        0, size=        0, Id= 0\n")
        let made = try fixture.made(try fixture.clonezilla())
        #expect(try ForeignFolderFixture.dump(made) == dump)
        try fixture.remove("sda-gpt-1st")
        #expect(throws: ImageError.self) { try fixture.clonezilla() }
    }

    @Test func savedSectorsThatDisagreeAreNotUsed() throws {
        let fixture = try ForeignFolderFixture(Self.gpt, byteCount: 64 << 20)
        try fixture.saveAsClonezilla()
        let other = try ForeignFolderFixture(
            "label: gpt\nlabel-id: \(Self.diskGUID)\nstart=2048, size=4096\n", byteCount: 64 << 20)
        try fixture.write("sda-gpt-1st", try other.bytes(0, 34 * 512))
        let disk = try fixture.clonezilla()
        #expect(disk.warnings.contains { $0.contains("another GPT") })
        #expect(try ForeignFolderFixture.dump(fixture.made(disk)) == ForeignFolderFixture.dump(fixture.source))
    }

    /// An MBR that lists partitions of the GPT a second time stays, with its boot code.
    @Test func aHybridMBRStays() throws {
        let fixture = try ForeignFolderFixture(Self.gpt, byteCount: 64 << 20)
        try ToolFile.run(["sgdisk", "-h", "3", fixture.source.string])
        try fixture.patch(0, [0xEB, 0x63, 0x90])
        try fixture.saveAsClonezilla()
        let made = try fixture.made(try fixture.clonezilla())
        #expect(try ForeignFolderFixture.bytes(made, 0, 512) == fixture.bytes(0, 512))
    }

    static let mbr = """
        label: dos
        label-id: 0x1234abcd
        start=2048, size=8192, type=83, bootable
        start=10240, size=2048, type=7
        start=16384, size=65536, type=f
        5 : start=18432, size=4096, type=83
        6 : start=24576, size=4096, type=82
        7 : start=30720, size=101, type=8e, bootable
        """

    @Test func anMBRWithLogicalPartitionsIsMadeAsItWas() throws {
        let fixture = try ForeignFolderFixture(Self.mbr, byteCount: 64 << 20)
        var random = SeededGenerator(seed: 1)
        let code = (0..<2047 * 512).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        try fixture.patch(0, Array(code[..<440]))
        try fixture.patch(512, code)
        try fixture.patch(16384 * 512, Array(code[..<440]))
        try fixture.saveAsClonezilla(parts: "sda1 sda2 sda5 sda6 sda7")
        // One sector too long, and one that would reach into the first partition.
        try fixture.write("sda-hidden-data-after-mbr", try fixture.bytes(512, 2049 * 512))
        try fixture.write("sda3-ebr", try fixture.bytes(16384 * 512, 512))
        let disk = try fixture.clonezilla()
        let made = try fixture.made(disk)
        #expect(try ForeignFolderFixture.dump(made) == ForeignFolderFixture.dump(fixture.source))
        #expect(try ForeignFolderFixture.bytes(made, 0, 1 << 20) == fixture.bytes(0, 1 << 20))
        #expect(try ForeignFolderFixture.bytes(made, 16384 * 512, 446) == fixture.bytes(16384 * 512, 446))
        #expect(!disk.warnings.contains { $0.contains("boot sector") })
        #expect(disk.parts.map(\.label) == ["sda1", "sda2", "sda5", "sda6", "sda7"])
    }

    /// The list of partitions counts; a boot sector with others is named.
    @Test func aBootSectorWithOtherPartitionsIsCorrected() throws {
        let fixture = try ForeignFolderFixture(Self.mbr, byteCount: 64 << 20)
        try fixture.saveAsClonezilla()
        var record = try fixture.bytes(0, 512)
        record[446 + 12] ^= 1
        record[0] = 0xFA
        try fixture.write("sda-mbr", record)
        let disk = try fixture.clonezilla()
        #expect(disk.warnings.contains { $0.contains("the saved boot sector has other partitions") })
        // Nor was what its boot code may need.
        #expect(disk.warnings.contains { $0.contains("between the boot sector and the first partition") })
        let made = try fixture.made(disk)
        #expect(try ForeignFolderFixture.dump(made) == ForeignFolderFixture.dump(fixture.source))
        #expect(try ForeignFolderFixture.bytes(made, 0, 1) == [0xFA])
        try fixture.remove("sda-mbr")
        #expect(try fixture.clonezilla().warnings.contains { $0.contains("the boot sector was not saved") })
    }

    /// Sectors of 4096 bytes: 4 sectors of entries, and all places in these units.
    @Test(arguments: [512, 4096]) func allSectorSizesAreMade(_ size: Int) throws {
        let text = """
            label: gpt
            label-id: \(Self.diskGUID)
            device: /dev/nvme0n1
            unit: sectors
            first-lba: 256
            last-lba: 16350
            sector-size: \(size)

            /dev/nvme0n1p1 : start=         256, size=         512, type=\(PartitionType.efiSystem), uuid=5EED0002-0000-4000-8000-000000000002, name="esp"
            /dev/nvme0n1p12 : start=         768, size=         100, type=\(PartitionType.linuxFilesystem), uuid=5EED0003-0000-4000-8000-000000000003
            """
        let table = try ForeignTable(sfdisk: text)
        #expect(table.entries.map(\.number) == [1, 12] && table.sectorSize == size)
        let geometry = DiskGeometry(byteCount: 16384 * UInt64(size), logicalSectorSize: size)
        let (fixed, _) = try table.made(on: geometry, .init(), name: "x")
        let reader = ForeignBytesReader(
            fixed, byteCount: geometry.byteCount, logicalSectorSize: size, name: "x")
        let made = try #require(try GPTReader.read(reader))
        #expect(made.condition == .intact && made.diskGUID == GUID(Self.diskGUID))
        #expect(made.usable == 256 * UInt64(size)..<16351 * UInt64(size) && made.entryCount == 128)
        #expect(made.partitions.map(\.range.lowerBound) == [256 * UInt64(size), 768 * UInt64(size)])
        #expect(made.partitions.map(\.name) == ["esp", ""])
    }

    /// Each is refused with a reason, and none of them traps.
    @Test(arguments: [
        "label: sun\n", "label: gpt\n", "label: gpt\nlabel-id: x\n", "label: dos\nlabel-id: 7\n", "unit: bytes\n",
        "sector-size: 0\n", "sector-size: 513\n", "first-lba: -1\n", "last-lba: 99999999999999999999\n",
        "/dev/sda1 : start=1, size=18446744073709551615, type=83\n", "/dev/sda1 : start=0, size=1, type=83\n",
        "/dev/sda : start=1, size=1, type=83\n", "/dev/sda999 : start=1, size=1, type=83\n",
        "/dev/sda1 : start=1, size=1, type=zz\n", "/dev/sda1 : start=1, size=1\n",
        "/dev/sda1 : start=1, size=1, type=83\n/dev/sdb1 : start=5, size=1, type=83\n",
        "/dev/sda1 : start=1, size=1, type=83, name=\"x\n", "/dev/sda1 : start=1, size=1, type=83, attrs=\"GUID:64\"\n",
    ]) func dumpsThatMakeNoSenseAreRefused(_ text: String) {
        #expect(throws: ParsingError.self) { try ForeignTable(sfdisk: text) }
    }

    /// Read well, and impossible on a disk.
    @Test(arguments: [
        "/dev/sda1 : start=1, size=10, type=83\n/dev/sda2 : start=5, size=10, type=83\n",
        "/dev/sda5 : start=100, size=10, type=83\n",
        "/dev/sda1 : start=10, size=100, type=5\n/dev/sda5 : start=10, size=10, type=83\n",
        "/dev/sda1 : start=10, size=100, type=5\n/dev/sda5 : start=50, size=100, type=83\n",
        "/dev/sda1 : start=10, size=100, type=5\n/dev/sda5 : start=20, size=5, type=83\n/dev/sda6 : start=25, size=5, type=83\n",
        "/dev/sda1 : start=4294967297, size=10, type=83\n", "/dev/sda1 : start=1, size=200000, type=83\n",
    ]) func tablesThatDoNotFitAreRefused(_ text: String) throws {
        let table = try ForeignTable(sfdisk: text)
        #expect(throws: ParsingError.self) {
            try table.made(on: DiskGeometry(byteCount: 64 << 20), .init(), name: "x")
        }
    }

    @Test func escapesOfNamesAreRead() {
        #expect(ForeignTable.unescaped("a\\x22b\\x5c\\xc3\\xa4\\x2") == "a\"b\\ä\\x2")
    }
}
