// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

@Suite(
    .enabled(
        if: Tool.have("sfdisk", "mke2fs", "mkfs.fat", "mcopy", "mmd", "mkswap"),
        "needs sfdisk, e2fsprogs, dosfstools, mtools"))
struct DiskSurveyorTests {
    private static let mebibyte: UInt64 = 1 << 20

    /// ESP, BIOS boot, ext4, swap, and a partition of noise, in an installer's layout.
    private func makeDisk(_ bench: Workbench, sectorSize: Int = 512) throws -> FilePath {
        let image = try bench.sparseFile("image", byteCount: 160 << 20)
        let script = """
            label: gpt
            start=1MiB, size=40MiB, type=U
            size=1MiB, type=21686148-6449-6E6F-744E-656564454649
            size=64MiB, type=L
            size=16MiB, type=S
            size=8MiB, type=L

            """
        try Tool.run(["sfdisk", "-q", image.string], input: script)
        let esp = try bench.systemPartition(bits: 16)
        try splice(esp, into: image, at: 1)
        let root = try bench.sparseFile("root", byteCount: 64 << 20)
        try Tool.run(["mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", root.string])
        try splice(root, into: image, at: 42)
        let swap = try bench.sparseFile("swap", byteCount: 16 << 20)
        try Tool.run(["mkswap", swap.string])
        try splice(swap, into: image, at: 106)
        try bench.write([UInt8](repeating: 0xA5, count: 1 << 20), to: bench.path("noise"))
        try splice(bench.path("noise"), into: image, at: 122)
        return image
    }

    private func splice(_ part: FilePath, into image: FilePath, at mebibytes: UInt64) throws {
        let source = try BlockDevice(opening: part)
        let target = try BlockDevice(opening: image, .exclusiveWrite)
        try target.writeBytes(
            try source.readBytes(at: 0, count: Int(source.byteCount)), at: mebibytes * Self.mebibyte)
    }

    private func survey(
        _ disk: BlockDevice, mountedReadWrite: [ByteRange] = [], allUsed: Bool = false
    ) throws -> DiskSurvey {
        try DiskSurveyor.survey(
            disk, identity: DiskIdentity(path: disk.name), geometry: disk.geometry, mountedReadWrite: mountedReadWrite,
            allUsed: allUsed, descriptor: disk.fileDescriptor.rawValue)
    }

    @Test func anInstalledDisk() throws {
        let bench = try Workbench()
        let image = try makeDisk(bench)
        let disk = try BlockDevice(opening: image)
        let survey = try survey(disk)
        #expect(survey.table.kind == .gpt && survey.warnings == [])
        #expect(survey.volumes.map(\.filesystem.kind) == [.fat16, .unknown, .ext4, .swap, .unknown])
        #expect(
            survey.volumes.map(\.filesystem.mapSource)
                == [.allocationStructures, .whole, .allocationStructures, .headerOnly, .whole])
        #expect(survey.volumes.map { $0.partition?.number } == [1, 2, 3, 4, 5])
        for volume in survey.volumes { #expect(volume.allocation.byteCount == volume.range.byteCount) }
        #expect(survey.boot.efiLoaders == ["\\EFI\\BOOT\\BOOTX64.EFI", "\\EFI\\debian\\shimx64.efi"])
        #expect(survey.boot.biosBootCode == nil && survey.boot.biosCoreImageFound == nil)
        #expect(survey.volumes[2].filesystem.label == "root")

        let root = survey.volumes[2].range
        let mounted = try self.survey(disk, mountedReadWrite: [root.lowerBound + 1..<root.lowerBound + 2])
        #expect(mounted.volumes[2].filesystem.wholeReason == "it is mounted read-write")
        #expect(mounted.volumes[2].filesystem.kind == .ext4)
        #expect(mounted.volumes[2].allocation == .whole(byteCount: 64 << 20))
        #expect(mounted.volumes[0].filesystem.mapSource == .allocationStructures)
        let all = try self.survey(disk, allUsed: true)
        #expect(all.volumes.allSatisfy { $0.filesystem.mapSource == .whole })
        #expect(all.volumes[2].filesystem.uuid == survey.volumes[2].filesystem.uuid)
    }

    @Test func damageIsWarnedOf() throws {
        let bench = try Workbench()
        let image = try makeDisk(bench)
        let writer = try BlockDevice(opening: image, .exclusiveWrite)
        try writer.writeBytes([UInt8](repeating: 0, count: 512), at: 512)
        try writer.writeBytes(Array("S1SUSPEND\0".utf8), at: 106 * Self.mebibyte + 4086)
        let survey = try survey(try BlockDevice(opening: image))
        #expect(
            survey.warnings == [
                "the primary partition table is damaged; its backup at the end of the disk was used",
                "partition 4: swap holds a hibernation image; it is put back as plain swap",
            ])
        #expect(survey.volumes.count == 5)
    }

    @Test func anUnreadableVolumeIsTakenWhole() throws {
        let bench = try Workbench()
        let image = try makeDisk(bench)
        let file = try BlockDevice(opening: image)
        let disk = MemoryDisk(try file.readBytes(at: 0, count: Int(file.byteCount)))
        disk.makeUnreadable(42 << 20..<43 << 20)
        let survey = try DiskSurveyor.survey(
            disk, identity: DiskIdentity(path: "memory"), geometry: DiskGeometry(byteCount: disk.byteCount))
        #expect(
            survey.warnings.count == 1 && survey.warnings[0].hasPrefix("partition 3 is taken whole: could not read"))
        #expect(survey.volumes[2].filesystem.kind == .unknown)
        #expect(survey.volumes[2].allocation == .whole(byteCount: 64 << 20))
        #expect(survey.volumes[3].filesystem.kind == .swap)
    }

    @Test func filesystemsOnTheBareDisk() throws {
        let bench = try Workbench()
        let esp = try bench.systemPartition(bits: 16)
        let stick = try survey(try BlockDevice(opening: esp))
        #expect(stick.table.kind == .none && stick.volumes.map(\.filesystem.kind) == [.fat16])
        #expect(stick.boot.efiLoaders.count == 2)
        // Over an older table: its backup is still at the end, and does not count.
        let image = try bench.sparseFile("image", byteCount: 64 << 20)
        try Tool.run(["sfdisk", "-q", image.string], input: "label: gpt\nsize=8MiB\n")
        try Tool.run(["mke2fs", "-q", "-F", "-t", "ext4", image.string])
        let bare = try survey(try BlockDevice(opening: image))
        #expect(bare.table.kind == .none && bare.volumes.count == 1)
        #expect(bare.volumes[0].filesystem.mapSource == .allocationStructures)
        #expect(bare.volumes[0].range == 0..<64 << 20 && bare.volumes[0].partition == nil)
    }

    @Test func underAForeignTableNothingIsDropped() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 64 << 20)
        try Tool.run(["mke2fs", "-q", "-F", "-t", "ext4", image.string])
        // The old filesystem's superblock survives a new MBR.
        try Tool.run(["sfdisk", "-q", "--wipe", "never", image.string], input: "label: dos\nsize=8MiB, type=83\n")
        let survey = try survey(try BlockDevice(opening: image))
        #expect(survey.table.kind == .unknown && survey.table.unknownKindName == "MBR and ext4 at the same time")
        #expect(survey.volumes.count == 1 && survey.volumes[0].filesystem.kind == .unknown)
        #expect(survey.volumes[0].allocation == .whole(byteCount: 64 << 20))
        #expect(
            survey.volumes[0].filesystem.wholeReason
                == "its partition table is not understood (MBR and ext4 at the same time)")
        #expect(survey.warnings.count == 1)
    }

    @Test func twoSignaturesAreNotTrusted() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 64 << 20)
        try Tool.run(["mke2fs", "-q", "-F", "-t", "ext4", image.string])
        #expect(try bench.survey("image").0.kind == .ext4)
        // The boot sector of a FAT whose reserved sectors leave room for the other superblock.
        let fat = try bench.sparseFile("fat", byteCount: 64 << 20)
        try Tool.run(["mkfs.fat", "-F", "16", "-R", "32", fat.string])
        try BlockDevice(opening: image, .exclusiveWrite).writeBytes(
            try BlockDevice(opening: fat).readBytes(at: 0, count: 512), at: 0)
        let (both, map) = try bench.survey("image")
        #expect(both.kind == .unknown && map == .whole(byteCount: 64 << 20))
        #expect(both.wholeReason == "it looks like ext4 and vfat at the same time")
        #expect(try bench.opinion("image") == .ambivalent)
    }

    /// libblkid detects a second format, which no reader of Reforge knows.
    @Test func theSecondOpinionCounts() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 64 << 20)
        try Tool.run(["mke2fs", "-q", "-F", "-t", "ext4", image.string])
        // dm-integrity starts in the boot block, which an ext4 leaves alone.
        let integrity = Array("integrt\0".utf8) + [1]
        let disk = try BlockDevice(opening: image, .exclusiveWrite)
        try disk.writeBytes(integrity, at: 0)
        let (info, map) = try bench.survey("image")
        #expect(info.kind == .unknown && map == .whole(byteCount: 64 << 20))
        #expect(info.wholeReason?.contains("libblkid") == true)
        // Without the descriptor there is no objection.
        #expect(try VolumeIdentifier.survey(disk).0.kind == .ext4)

        let other = try bench.sparseFile("other", byteCount: 16 << 20)
        try BlockDevice(opening: other, .exclusiveWrite).writeBytes(integrity, at: 0)
        let (alone, aloneMap) = try bench.survey("other")
        #expect(alone.kind == .other && alone.kindName == "DM_integrity" && alone.mapSource == .whole)
        #expect(alone.wholeReason == "no map is made of DM_integrity")
        #expect(aloneMap == .whole(byteCount: 16 << 20))
    }

    @Test(.enabled(if: Files.exists("/usr/lib/grub/i386-pc/boot.img"), "needs grub-pc-bin"))
    func grubOnBIOSIsFound() throws {
        let bench = try Workbench()
        let image = try makeDisk(bench)
        let writer = try BlockDevice(opening: image, .exclusiveWrite)
        var boot = try Files.read("/usr/lib/grub/i386-pc/boot.img")
        boot.setLittleEndian(UInt64(41 * 2048), at: 0x5C)
        try writer.writeBytes(Array(boot.prefix(440)), at: 0)
        let without = try survey(try BlockDevice(opening: image)).boot
        #expect(without.biosBootCode == "GRUB" && without.biosCoreImageFound == false)
        try writer.writeBytes(try Files.read("/usr/lib/grub/i386-pc/diskboot.img"), at: 41 << 20)
        let with = try survey(try BlockDevice(opening: image)).boot
        #expect(with.biosBootCode == "GRUB" && with.biosCoreImageFound == true)
        try writer.writeBytes([0xEB, 0x3C, 0x90] + [UInt8](repeating: 0x20, count: 437), at: 0)
        #expect(try survey(try BlockDevice(opening: image)).boot.biosBootCode == "other")
    }
}
