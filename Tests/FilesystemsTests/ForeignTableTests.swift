// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// A survey of a disk file, as in a capture.
private func surveyed(_ image: FilePath) throws -> DiskSurvey {
    let disk = try BlockDevice(opening: image)
    return try DiskSurveyor.survey(
        disk, identity: DiskIdentity(path: disk.name), geometry: disk.geometry,
        descriptor: disk.fileDescriptor.rawValue)
}

/// Expects the disk to be one raw region with every byte used, and a message about it.
private func expectRaw(_ survey: DiskSurvey, _ name: String?, _ comment: Comment) {
    let what = "not understood (\(name ?? "nothing known"))"
    let byteCount = survey.geometry.byteCount
    #expect(survey.table.kind == .unknown && survey.table.unknownKindName == name, comment)
    #expect(survey.volumes.map(\.range) == [0..<byteCount], comment)
    #expect(survey.volumes.first?.allocation == AllocationMap.whole(byteCount: byteCount), comment)
    #expect(survey.volumes.allSatisfy { $0.partition == nil && $0.filesystem.kind == .unknown }, comment)
    #expect(survey.volumes.first?.filesystem.wholeReason == "its partition table is \(what)", comment)
    #expect(survey.warnings == ["the partition table is \(what): the disk counts as one raw region"], comment)
}

/// Tables of other systems, made by sfdisk: no byte of such a disk is dropped.
@Suite(.enabled(if: Tool.have("sfdisk"), "needs sfdisk")) struct ForeignTableTests {
    /// Partitions with further places on the whole disk.
    @Test(arguments: [
        ("a5", "BSD disklabel"), ("a6", "BSD disklabel"), ("a9", "BSD disklabel"), ("bf", "Solaris label"),
    ]) func oneThatHoldsALabelOfItsOwnMakesTheDiskRaw(type: String, label: String) throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 64 << 20)
        try Tool.run(
            ["sfdisk", "-q", image.string],
            input: "label: dos\nstart=2048, size=8192, type=83\nstart=10240, size=8192, type=\(type)\n")
        expectRaw(try surveyed(image), "MBR with a \(label)", "type \(type)")
    }

    @Test(arguments: ["sun", "sgi"]) func labelsOfOtherMachinesMakeTheDiskRaw(label: String) throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 64 << 20)
        try Tool.run(["sfdisk", "-q", image.string], input: "label: \(label)\n,8M\n,8M\n")
        let survey = try surveyed(image)
        expectRaw(survey, survey.table.unknownKindName, "label \(label)")
    }

    /// The first partition of a Sun label starts with the label itself, which an ext4 does not overwrite: then the
    /// disk looks like a bare filesystem, but everything behind it counts.
    @Test(.enabled(if: Tool.have("mke2fs"), "needs e2fsprogs"))
    func whatLiesBehindAFilesystemInASunLabelIsUsed() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 64 << 20)
        try Tool.run(["mke2fs", "-q", "-F", "-t", "ext4", image.string, "8000k"])
        try Tool.run(
            ["sfdisk", "-q", "--wipe", "never", "--wipe-partitions", "never", image.string],
            input: "label: sun\nstart=0, size=16065, type=83\nstart=32130, size=32130, type=83\n")
        let survey = try surveyed(image)
        let volume = try #require(survey.volumes.first)
        #expect(survey.volumes.count == 1 && volume.range == 0..<64 << 20)
        #expect(volume.allocation.covers(0..<512) && volume.allocation.covers(8000 << 10..<64 << 20))
    }
}

/// ISO images for booting from a stick, which are a filesystem and a partitioned disk at the same time.
@Suite(.enabled(if: Tool.have("xorriso", "mkfs.fat", "mcopy", "sgdisk"), "needs xorriso, dosfstools, mtools, gdisk"))
struct HybridISOTests {
    /// No byte of it is 0: bytes that are not captured become visible.
    private static func noise(_ byteCount: Int) -> [UInt8] {
        (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 37 ^ $0 >> 8) | 1 }
    }

    /// An ISO with a file, boot code, and the image of an EFI system partition, which is also one of its files.
    private func makeISO(_ bench: Workbench, _ arguments: [String]) throws -> FilePath {
        let boot = bench.path("tree").appending("boot")
        try Files.makeFolders(boot)
        try bench.write(Self.noise(300_000), to: boot.appending("kernel"))
        try bench.write(Self.noise(2048), to: boot.appending("loader"))
        try bench.write(Self.noise(432), to: bench.path("mbr"))
        let esp = try bench.sparseFile("esp", byteCount: 1440 << 10)
        try Tool.run(["mkfs.fat", "-F", "12", esp.string])
        try Tool.run(["mcopy", "-i", esp.string, boot.appending("loader").string, "::/"])
        try Tool.run(["cp", esp.string, boot.appending("esp").string])
        let image = bench.path("image")
        let files = ["MBR": bench.path("mbr").string, "ESP": esp.string]
        let named = arguments.map { files[$0] ?? $0 }
        try Tool.run(
            ["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", image.string] + named + [bench.path("tree").string])
        return image
    }

    static let biosBoot = [
        "-isohybrid-mbr", "MBR", "-b", "boot/loader", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
    ]
    static let efiBoot = ["-eltorito-alt-boot", "-e", "boot/esp", "-no-emul-boot", "-isohybrid-gpt-basdat"]
    /// The table of the second one is valid.
    static let casesWithMBR: [([String], String)] = [
        (biosBoot, "MBR whose partition 1 starts at its own record"),
        (biosBoot + ["-partition_offset", "16"], "MBR and iso9660 at the same time"),
        (biosBoot + efiBoot, "MBR and iso9660 at the same time"),
    ]
    static let casesWithGPT: [[String]] = [
        [
            "-append_partition", "2", "0xef", "ESP", "-appended_part_as_gpt", "-partition_offset", "16",
            "-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot",
        ],
        ["--protective-msdos-label", "--efi-boot", "boot/esp", "-efi-boot-part", "--efi-boot-image"],
    ]

    /// One raw region, also on a larger stick.
    @Test(arguments: casesWithMBR + casesWithGPT.map { ($0, "GPT and iso9660 at the same time") })
    func itIsRaw(arguments: [String], name: String) throws {
        let bench = try Workbench()
        let image = try makeISO(bench, arguments)
        expectRaw(try surveyed(image), name, "\(arguments)")
        try Tool.run(["truncate", "-s", "+8M", image.string])
        expectRaw(try surveyed(image), name, "\(arguments) on a stick")
    }

    /// A disk that was such a stick once: the descriptors are still there, before its partitions.
    @Test func whatIsLeftOfOneIsNot() throws {
        let bench = try Workbench()
        let image = try makeISO(bench, Self.casesWithGPT[0])
        try Tool.run(["truncate", "-s", "64M", image.string])
        try Tool.run(["sgdisk", "-Z", image.string])
        try Tool.run(["sgdisk", "-n", "1:2048:0", image.string])
        #expect(try BlockDevice(opening: image).readBytes(at: 32769, count: 5) == Array("CD001".utf8))
        let survey = try surveyed(image)
        #expect(survey.table.kind == .gpt && survey.table.partitions.count == 1)
    }
}
