// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskImages
@testable import ImageModel

/// The parts of a disk in a Clonezilla folder. The contents of images are not read here.
@Suite struct ClonezillaFolderTests {
    static let layout = """
        label: dos
        label-id: 0x5eed0001
        start=2048, size=2048, type=83
        start=4096, size=2048, type=82
        start=6144, size=4096, type=83
        start=10240, size=20480, type=5
        5 : start=12288, size=2048, type=83
        6 : start=16384, size=4096, type=8e
        """

    static func fixture(_ files: [String], parts: String = "sda1 sda2 sda3 sda5 sda6") throws -> ForeignFolderFixture {
        let fixture = try ForeignFolderFixture(layout, byteCount: 16 << 20)
        try fixture.saveAsClonezilla(parts: parts)
        for name in files { try fixture.write(name, "x") }
        return fixture
    }

    /// Every name that Clonezilla gives to images: compressed by each program, cut in pieces or not, of a filesystem, or
    /// of all sectors.
    @Test(arguments: [
        (["sda1.ext4-ptcl-img.zst"], "partclone sda1.ext4-ptcl-img.zst"),
        (["sda1.ext4-ptcl-img.uncomp"], "partclone sda1.ext4-ptcl-img.uncomp"),
        (["sda1.ext4-ptcl-img"], "partclone sda1.ext4-ptcl-img"),
        (["sda1.ntfs-ptcl-img.gz.aa"], "partclone sda1.ntfs-ptcl-img.gz.aa"),
        (
            ["sda1.vfat-ptcl-img.xz.ab", "sda1.vfat-ptcl-img.xz.aa"],
            "partclone sda1.vfat-ptcl-img.xz.aa sda1.vfat-ptcl-img.xz.ab"
        ),
        (
            ["sda1.btrfs-ptcl-img.lzo.aaa", "sda1.btrfs-ptcl-img.lzo.aab"],
            "partclone sda1.btrfs-ptcl-img.lzo.aaa sda1.btrfs-ptcl-img.lzo.aab"
        ),
        (["sda1.xfs-ptcl-img.aa"], "partclone sda1.xfs-ptcl-img.aa"),
        (["sda1.dd-ptcl-img.lz4", "sda1.dd-ptcl-img.lz4.info"], "probe sda1.dd-ptcl-img.lz4"),
        (["sda1.dd-img", "sda1.dd-img.info", "sda1.info.gz"], "raw sda1.dd-img"),
        (["sda1.dd-img.aa", "sda1.dd-img.ab"], "raw sda1.dd-img.aa sda1.dd-img.ab"),
        (["sda1.aa", "sda1.ab"], "partclone sda1.aa sda1.ab"),
        (["sda10-ext4-ptcl-img.zst"], "missing"),
    ]) func imagesAreFoundByTheirNames(_ files: [String], _ content: String) throws {
        let disk = try Self.fixture(files).clonezilla()
        #expect(disk.text.first == "sda1 2048+2048 \(content)")
        #expect(
            disk.format == "Clonezilla"
                && Set(disk.files.compactMap(\.lastComponent?.string)).isSuperset(of: ["sda-pt.sf"]))
    }

    @Test(arguments: [
        (["sda1.ext4-ptcl-img.gz.aa", "sda1.ext4-ptcl-img.gz.ac"], "a piece of sda1.ext4-ptcl-img.gz is missing"),
        (["sda1.ext4-ptcl-img.gz.ab"], "a piece of sda1.ext4-ptcl-img.gz is missing"),
        (["sda1.ext4-ptcl-img.gz.aa", "sda1.ext4-ptcl-img.gz.aab"], "does not belong to it"),
        (["sda1.ext4-ptcl-img.gz", "sda1.ext4-ptcl-img.gz.aa"], "it has both"),
        (["sda1.ext4-ptcl-img.gz", "sda1.ext4-ptcl-img.zst"], "several images of sda1"),
        (["sda1.ext4-ptcl-img.gz", "sda1.dd-img"], "several images of sda1"),
        (["sda1.ntfs-img.aa"], "ntfsclone"), (["sda1.000"], "partimage"), (["sda1.ext4-ptcl-img.lrz"], "lrzip"),
        (["ecryptfs.info"], "eCryptfs"), (["gocryptfs.info"], "gocryptfs"),
    ]) func whatCannotBeTakenIsRefusedByName(_ files: [String], _ why: String) throws {
        let fixture = try Self.fixture(files)
        let error = #expect(throws: ImageError.self) { try fixture.clonezilla() }
        #expect(error?.description.contains(why) == true, "\(error?.description ?? "")")
    }

    /// A list that was cut off must not lose the partitions behind the cut.
    @Test(arguments: [
        (["sda6.ext4-ptcl-img.zst"], "sda1", ""), ([], "sda1 sda6", ""), ([], "sda1", "/dev/sda6 LVM2_member 2M\n"),
    ]) func aCutListOfPartitionsIsRefused(_ files: [String], _ parts: String, _ filesystems: String) throws {
        let fixture = try Self.fixture(["sda1.ext4-ptcl-img.zst"] + files, parts: parts)
        if !filesystems.isEmpty { try fixture.write("dev-fs.list", "# Device, filesystem, size\n\(filesystems)") }
        _ = try fixture.clonezilla()
        let dump = try ForeignFolderFixture.dump(fixture.source).split(separator: "\n")
        try fixture.write("sda-pt.sf", dump.dropLast().joined(separator: "\n") + "\n")
        let error = #expect(throws: ImageError.self) { try fixture.clonezilla() }
        #expect(error?.description.contains("does not list sda6") == true, "\(error?.description ?? "")")
    }

    @Test func swapIsMadeAndWhatIsMissingIsSaid() throws {
        let fixture = try Self.fixture(["sda1.ext4-ptcl-img.zst", "sda5.ext4-ptcl-img.zst"])
        try fixture.write(
            "swappt-sda2.info", "UUID=\"5eed0004-0000-4000-8000-000000000004\"\nLABEL=\"a swap\"\n$(touch /tmp/x)\n")
        try fixture.write("dev-fs.list", "# <Device name> <File system> <Size>\n/dev/sda3 ntfs 2M\n")
        try fixture.write("MD5SUMS", "x")
        let disk = try fixture.clonezilla()
        #expect(
            disk.text == [
                "sda1 2048+2048 partclone sda1.ext4-ptcl-img.zst",
                "sda2 4096+2048 swap 5eed0004-0000-4000-8000-000000000004 a swap", "sda3 6144+4096 missing",
                "sda5 12288+2048 partclone sda5.ext4-ptcl-img.zst", "sda6 16384+4096 missing",
            ])
        #expect(disk.warnings.contains { $0.contains("sda3 is missing") && $0.contains("it was ntfs") })
        #expect(disk.warnings.contains { $0.contains("MD5SUMS is not read") })
    }

    /// `saveparts` writes no `disk`; an older Reforge then took the first disk only.
    @Test func allDisksOfSavedPartitionsAreFound() throws {
        let fixture = try Self.fixture([], parts: "sda1 nvme0n1p3 cciss/c0d0p1 sdc")
        try fixture.remove("disk")
        let dump = try ForeignFolderFixture.dump(fixture.source)
        try fixture.write("nvme0n1-pt.sf", dump.replacing("/dev/sda", with: "/dev/nvme0n1p"))
        try fixture.write("cciss-c0d0-pt.sf", dump.replacing("/dev/sda", with: "/dev/cciss/c0d0p"))
        try fixture.write("sdc.ext4-ptcl-img.zst", "x")
        try fixture.write("cciss-c0d0p1.ext4-ptcl-img.zst", "x")
        let disks = try FolderFormat.clonezilla.disks(fixture.folder)
        #expect(disks == ["sda", "nvme0n1", "cciss/c0d0", "sdc"])
        let disk = try fixture.clonezilla("cciss/c0d0")
        #expect(disk.text.first == "cciss/c0d0p1 2048+2048 partclone cciss-c0d0p1.ext4-ptcl-img.zst")
        // Without its length, a bare disk cannot be laid out.
        #expect(throws: ImageError.self) { try fixture.clonezilla("sdc") }
        try fixture.write(
            "blkdev.json", #"{"blockdevices":[{"name":"sdc","size":"1048576","log-sec":512,"serial":"S7"}]}"#)
        let bare = try fixture.clonezilla("sdc")
        #expect(bare.text == ["sdc 0+2048 partclone sdc.ext4-ptcl-img.zst"] && bare.fixed.isEmpty)
        #expect(bare.identity.serial == "S7")
    }

    @Test func aDiskThatIsNotListedIsFound() throws {
        let fixture = try Self.fixture([])
        let dump = try ForeignFolderFixture.dump(fixture.source)
        try fixture.write("nvme0n1-pt.sf", dump.replacing("/dev/sda", with: "/dev/nvme0n1p"))
        #expect(try FolderFormat.clonezilla.disks(fixture.folder) == ["sda"])
        try fixture.write("nvme0n1p1.ext4-ptcl-img.zst", "x")
        #expect(try FolderFormat.clonezilla.disks(fixture.folder) == ["sda", "nvme0n1"])
    }

    @Test(arguments: [
        ("sda3", "sda"), ("sda", "sda"), ("nvme0n1p3", "nvme0n1"), ("nvme0n1", "nvme0n"), ("mmcblk0p12", "mmcblk0"),
        ("cciss/c0d0p1", "cciss/c0d0"), ("vdap1", "vdap"), ("7", "7"),
    ]) func partitionsNameTheirDisk(_ partition: String, _ disk: String) {
        #expect(ClonezillaFolder.disk(of: partition) == disk)
    }

    /// Clonezilla saves an opened LUKS volume decrypted.
    @Test func whatWasEncryptedIsSaid() throws {
        let fixture = try Self.fixture(["ocs_luks_A1b.ext4-ptcl-img.zst", "sda3-luksHeader.bin"])
        try fixture.write(
            "luks-dev.list", "/dev/sda3 5eed0005-0000-4000-8000-000000000005 ocs_luks_A1b\n")
        let disk = try fixture.clonezilla()
        #expect(disk.text.contains("sda3 6144+4096 partclone ocs_luks_A1b.ext4-ptcl-img.zst"))
        #expect(disk.warnings.contains { $0.contains("sda3 was encrypted") && $0.contains("crypttab") })
    }

    /// Names in texts lead nowhere but to the folder's own regular files.
    @Test func noNameLeadsOutOfTheFolder() throws {
        let fixture = try Self.fixture([], parts: "../../secret1 /etc/passwd sda1")
        let secret = fixture.scratch.path.appending("secret.ext4-ptcl-img.zst")
        try Files.write([1], to: secret)
        try fixture.write("disk", "../secret /dev/sda sda")
        #expect(throws: ImageError.self) { try fixture.clonezilla("../secret") }
        #expect(throws: ImageError.self) { try fixture.clonezilla("/dev/sda") }
        #expect(throws: ImageError.self) { try fixture.clonezilla("sdb") }
        for file in try fixture.clonezilla().files { #expect(file.removingLastComponent() == fixture.folder) }
        try ToolFile.run(["ln", "-s", secret.string, fixture.folder.appending("sda1.ext4-ptcl-img.zst").string])
        let error = #expect(throws: ImageError.self) { try fixture.clonezilla() }
        #expect(error?.description.contains("through links") == true)
    }

    /// Each text of a folder with bytes changed: taken or refused, never a trap.
    @Test func textsWithAnyDamageAreTakenOrRefused() throws {
        let fixture = try Self.fixture(["sda1.ext4-ptcl-img.zst"])
        try fixture.write("swappt-sda2.info", "UUID=\"5eed0004-0000-4000-8000-000000000004\"\nLABEL=\"swap\"\n")
        try fixture.write("blkdev.json", #"{"blockdevices":[{"name":"sda","size":16777216,"log-sec":512}]}"#)
        try fixture.write("luks-dev.list", "/dev/sda3 5eed0005-0000-4000-8000-000000000005 ocs_luks_A1b\n")
        try fixture.write("lvm_vg_dev.list", "vg /dev/sda6 abcdef-ghij-klmn-opqr-stuv-wxyz-ABCDEF\n")
        try fixture.write("lvm_vg.conf", LVMBackupTests.text)
        let names = [
            "disk", "parts", "sda-pt.sf", "sda-pt.parted", "sda-mbr", "swappt-sda2.info", "blkdev.json",
            "luks-dev.list",
            "lvm_vg_dev.list", "lvm_vg.conf",
        ]
        var random = SeededGenerator(seed: Sample.seed())
        for round in 0..<(Sample.isFull ? 4000 : 200) {
            let name = names[round % names.count]
            let sound = try Files.read(fixture.folder.appending(name))
            var bytes = sound
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let place = Int.random(in: 0..<max(1, bytes.count), using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0 where place < bytes.count: bytes[place] = UInt8.random(in: .min ... .max, using: &random)
                case 1 where place < bytes.count: bytes.removeSubrange(place..<min(bytes.count, place + 7))
                case 2: bytes.insert(contentsOf: Array("99999999999".utf8), at: min(place, bytes.count))
                default: bytes = Array(bytes.prefix(place))
                }
            }
            try fixture.write(name, bytes)
            do {
                for disk in try FolderFormat.clonezilla.disks(fixture.folder) {
                    check(try FolderFormat.clonezilla.open(fixture.folder, disk))
                }
            } catch { #expect(!error.description.isEmpty) }
            try fixture.write(name, sound)
        }
    }

    /// The promises of a `ForeignDisk`.
    func check(_ disk: ForeignDisk) {
        var places = disk.fixed.map { $0.offset..<$0.offset + UInt64($0.bytes.count) }
        #expect(zip(places, places.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound })
        let starts = disk.parts.compactMap(\.segments.first?.lowerBound)
        #expect(starts.count == disk.parts.count && starts == starts.sorted())
        places = (places + disk.parts.flatMap(\.segments)).sorted { $0.lowerBound < $1.lowerBound }
        #expect(zip(places, places.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound })
        #expect(places.last?.upperBound ?? 0 <= disk.geometry.byteCount)
    }
}
