// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskImages
@testable import ImageModel

/// The parts of a disk in a FOG folder. The contents of images are not read here.
@Suite struct FOGFolderTests {
    static let layout = """
        label: gpt
        label-id: \(ForeignTableTests.diskGUID)
        start=2048, size=4096, type=U, name=esp
        start=6144, size=40960, type=L
        start=47104, size=4096, type=S
        start=51200, size=4096, type=L
        """

    static func fixture(_ files: [String], layout: String = layout) throws -> ForeignFolderFixture {
        let fixture = try ForeignFolderFixture(layout, byteCount: 32 << 20)
        try fixture.write("d1.partitions", try ForeignFolderFixture.dump(fixture.source))
        try fixture.write("d1.mbr", try fixture.bytes(0, 1 << 20))
        for name in files { try fixture.write(name, "x") }
        return fixture
    }

    static func open(_ fixture: ForeignFolderFixture, _ disk: String = "d1") throws -> ForeignDisk {
        #expect(try FolderFormat.fog.recognize(fixture.folder))
        return try FolderFormat.fog.open(fixture.folder, disk)
    }

    @Test func theTableAndTheImagesAreFound() throws {
        let fixture = try Self.fixture(["d1p1.img", "d1p2.img.001", "d1p2.img.000", "d1.has_grub"])
        try fixture.write("d1.original.swapuuids", "3 5eed0004-0000-4000-8000-000000000004\n")
        let disk = try Self.open(fixture)
        #expect(try FolderFormat.fog.disks(fixture.folder) == ["d1"])
        #expect(
            disk.text == [
                "d1p1 2048+4096 partclone d1p1.img", "d1p2 6144+40960 partclone d1p2.img.000 d1p2.img.001",
                "d1p3 47104+4096 swap 5eed0004-0000-4000-8000-000000000004 ", "d1p4 51200+4096 missing",
            ])
        #expect(disk.warnings.contains { $0.contains("without checksums") })
        let made = try fixture.made(disk)
        #expect(try ForeignFolderFixture.dump(made) == ForeignFolderFixture.dump(fixture.source))
        #expect(try ToolFile.run(["sgdisk", "-v", made.string]).text.contains("No problems found"))
    }

    /// A "resizable" image is placed as the disk was before FOG made its filesystems smaller.
    @Test func partitionsAreAsBeforeTheShrink() throws {
        let fixture = try Self.fixture(["d1p1.img", "d1p2.img", "d1p3.img", "d1p4.img"])
        let dump = try ForeignFolderFixture.dump(fixture.source)
        try fixture.write("d1.minimum.partitions", dump.replacing("size=       40960", with: "size=       20480"))
        let disk = try Self.open(fixture)
        #expect(disk.text[1] == "d1p2 6144+40960 partclone d1p2.img")
        #expect(disk.warnings.contains { $0.contains("of the partitions 2 smaller") })
    }

    @Test func anMBRIsMadeWithTheDataBehindIt() throws {
        let layout = """
            label: dos
            label-id: 0x5eed0001
            start=2048, size=2048, type=83, bootable
            start=4096, size=20480, type=5
            5 : start=6144, size=2048, type=83
            6 : start=10240, size=2048, type=83
            """
        let fixture = try Self.fixture(["d1p1.img", "d1p5.img", "d1p6.img"], layout: layout)
        try fixture.patch(0, [0xEB, 0x63])
        try fixture.patch(512, [UInt8](repeating: 7, count: 2047 * 512))
        try fixture.write("d1.mbr", try fixture.bytes(0, 1 << 20))
        try fixture.write("d1p2.ebr", [])
        let disk = try Self.open(fixture)
        let made = try fixture.made(disk)
        #expect(try ForeignFolderFixture.bytes(made, 0, 1 << 20) == fixture.bytes(0, 1 << 20))
        #expect(try ForeignFolderFixture.dump(made) == ForeignFolderFixture.dump(fixture.source))
        #expect(disk.parts.map(\.label) == ["d1p1", "d1p5", "d1p6"])
    }

    /// A list that was cut off must not lose the partitions behind the cut.
    @Test(arguments: ["d1p4.img", "d1p4.img.000", "d1p4.lvm.vgcfg", "d1.original.swapuuids"])
    func aCutListOfPartitionsIsRefused(_ file: String) throws {
        let fixture = try Self.fixture(["d1p1.img", "d1p2.img"])
        try fixture.write(file, file.contains("swap") ? "4 5eed0004-0000-4000-8000-000000000004\n" : "x")
        let dump = try ForeignFolderFixture.dump(fixture.source).split(separator: "\n")
        try fixture.write("d1.partitions", dump.dropLast().joined(separator: "\n") + "\n")
        let error = #expect(throws: ImageError.self) { try Self.open(fixture) }
        #expect(error?.description.contains("does not list the partition 4") == true, "\(error?.description ?? "")")
    }

    @Test func volumeGroupsAreTaken() throws {
        let layout = "label: dos\nstart=2048, size=51200, type=8e\n"
        let fixture = try Self.fixture(["d1p1.lvm", "d1p1.root.img", "d1p1.swap.img.000"], layout: layout)
        let single = LVMBackupTests.single
        try fixture.write("d1p1.lvm.vgcfg", single)
        #expect(
            try Self.open(fixture).text == [
                "vg/a-b 4096+4096 missing", "vg/swap 12288+2048 partclone d1p1.swap.img.000",
                "vg/root 24576+8192 8192+4096 partclone d1p1.root.img",
            ])
        try fixture.write("d1p1.lvm.vgcfg", LVMBackupTests.text)
        #expect(try Self.open(fixture).text == ["d1p1 2048+51200 missing"])
    }

    @Test(arguments: [
        (["d1p2.img.000", "d1p2.img.002"], "a piece of d1p2.img is missing"), (["sys.img.000"], "Windows 7"),
        (["d1p2.img", "d1p2.img.000"], "it has both"),
    ]) func whatCannotBeTakenIsRefusedByName(_ files: [String], _ why: String) throws {
        let fixture = try Self.fixture(files)
        let error = #expect(throws: ImageError.self) { try Self.open(fixture) }
        #expect(error?.description.contains(why) == true, "\(error?.description ?? "")")
    }

    @Test func partimageIsRefused() throws {
        let fixture = try Self.fixture([])
        try fixture.write("d1p1.img", "PaRtImAgE-VoLuMe and more")
        let error = #expect(throws: ImageError.self) { try Self.open(fixture) }
        #expect(error?.description.contains("partimage") == true)
        try fixture.remove("d1.partitions")
        #expect(throws: ImageError.self) { try Self.open(fixture) }
    }

    @Test func textsWithAnyDamageAreTakenOrRefused() throws {
        let fixture = try Self.fixture(["d1p1.img"])
        try fixture.write("d1.original.swapuuids", "3 5eed0004-0000-4000-8000-000000000004\n")
        try fixture.write("d1p2.lvm.vgcfg", LVMBackupTests.single)
        let names = ["d1.partitions", "d1.mbr", "d1.original.swapuuids", "d1p2.lvm.vgcfg"]
        var random = SeededGenerator(seed: Sample.seed())
        for round in 0..<(Sample.isFull ? 2000 : 100) {
            let name = names[round % names.count]
            let sound = try Files.read(fixture.folder.appending(name))
            var bytes = sound
            let place = Int.random(in: 0..<min(4096, bytes.count), using: &random)
            if Bool.random(using: &random) {
                bytes[place] = UInt8.random(in: .min ... .max, using: &random)
            } else {
                bytes.removeSubrange(place..<min(bytes.count, place + 5))
            }
            try fixture.write(name, bytes)
            do { ClonezillaFolderTests().check(try FolderFormat.fog.open(fixture.folder, "d1")) } catch {
                #expect(!error.description.isEmpty)
            }
            try fixture.write(name, sound)
        }
    }
}
