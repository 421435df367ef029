// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import BootRepair

/// A disk in a file that holds what Reforge reads of a Windows: made by sfdisk, mkfs.fat, mtools, mkntfs and ntfs-3g.
final class WindowsDisk {
    static let mebibyte: UInt64 = 1 << 20
    static let windowsStart = 12 * mebibyte
    static let byteCount = 36 * mebibyte
    /// The identifiers that the store names: those of the disk that was captured.
    static let (oldPartition, oldESP, oldDisk) = (Fixture.guid(7), Fixture.guid(8), Fixture.guid(9))
    /// The modaliases of an NVMe disk.
    static let nvme = ["pci:v0000144Dd0000A808sv0000144Dsd0000A801bc01sc08i02"]

    static let canBeMade =
        SystemFacts.isRoot && Files.exists("/dev/fuse") && Files.exists("/dev/loop-control")
        && ["sfdisk", "mkfs.fat", "mcopy", "mmd", "mkntfs", "ntfs-3g", "losetup"].allSatisfy(ChildProcess.canFind)

    let folder: ScratchFolder
    var image: FilePath { folder.path.appending("disk.raw") }

    /// - Parameters:
    ///   - isGPT: else an MBR with the system in partition 2 and the store in partition 1, which is NTFS.
    ///   - files: of the system's volume, besides its hive and drivers, by their paths.
    init(
        isGPT: Bool = true, store: [UInt8], system: [UInt8],
        drivers: [String] = ["storahci", "stornvme"], files: [String: [UInt8]] = [:]
    ) throws {
        folder = try ScratchFolder()
        let file = try OwnedDescriptor.open(image, .readWrite, options: [.create], permissions: [.ownerReadWrite])
        try Files.resize(file.raw, image.string, to: Self.byteCount)
        let table =
            isGPT
            ? "label: gpt\nlabel-id: \(Fixture.guid(0))\nunit: sectors\n"
                + "start=2048, size=16384, type=\(PartitionType.efiSystem), uuid=\(Fixture.guid(1))\n"
                + "start=18432, size=4096, type=E3C9E316-0B5C-4DB8-817D-F92DF00215AE, uuid=\(Fixture.guid(2))\n"
                + "start=24576, size=45056, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, uuid=\(Fixture.guid(3))\n"
            : "label: dos\nlabel-id: 0x1234abcd\nunit: sectors\nstart=2048, size=16384, type=7, bootable\n"
                + "start=24576, size=45056, type=7\n"
        try Self.run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", image.string], input: table)
        try put(store, "BCD")
        try put(Array("MZ bootmgfw".utf8), "bootmgfw.efi")
        try put(system, "SYSTEM")
        var copies = [
            "mkdir -p Windows/System32/config Windows/System32/drivers", "cp \"$1/SYSTEM\" Windows/System32/config/",
        ]
        copies += drivers.map { "head -c 70000 /dev/zero > Windows/System32/drivers/\($0).sys" }
        copies += ["winload", "winresume"].map { "head -c 5000 /dev/zero > Windows/System32/\($0).efi" }
        for (index, file) in files.sorted(by: { $0.key < $1.key }).enumerated() {
            try put(file.value, "file\(index)")
            copies.append("cp \"$1/file\(index)\" '\(file.key)'")
        }
        try makeNTFS(
            "windows.img", byteCount: 22 * Self.mebibyte, at: Self.windowsStart, copies.joined(separator: "\n"))
        if isGPT {
            try makeESP()
        } else {
            try makeNTFS("boot.img", byteCount: 8 * Self.mebibyte, at: Self.mebibyte, "mkdir Boot; cp \"$1/BCD\" Boot/")
        }
    }

    private func put(_ bytes: [UInt8], _ name: String) throws {
        try Files.write(bytes, to: folder.path.appending(name))
    }

    @discardableResult static func run(_ arguments: [String], input: String = "") throws -> [UInt8] {
        let output = try ChildProcess.run(
            arguments, input: Array(input.utf8), environment: ChildProcess.plainEnvironment + ["MTOOLS_SKIP_CHECK=1"],
            timeoutSeconds: 120)
        guard output.succeeded else {
            throw SystemCallError("run", "\(arguments.joined(separator: " ")): \(output.lastWords)", .invalidArgument)
        }
        return output.standardOutput
    }

    private func makeESP() throws {
        let esp = "\(image)@@\(Self.mebibyte)"
        try Self.run(["mkfs.fat", "-F", "16", "-s", "1", "--offset", "2048", image.string, "\(8 << 10)"])
        for name in ["EFI", "EFI/Microsoft", "EFI/Microsoft/Boot", "EFI/BOOT"] {
            try Self.run(["mmd", "-i", esp, "::\(name)"])
        }
        for (from, to) in [
            ("BCD", "Microsoft/Boot/BCD"), ("bootmgfw.efi", "Microsoft/Boot/bootmgfw.efi"),
            ("bootmgfw.efi", "BOOT/BOOTX64.EFI"),
        ] {
            try Self.run(["mcopy", "-i", esp, folder.path.appending(from).string, "::EFI/\(to)"])
        }
    }

    private func makeNTFS(_ name: String, byteCount: UInt64, at offset: UInt64, _ script: String) throws {
        let volume = folder.path.appending(name)
        do {
            let file = try OwnedDescriptor.open(volume, .readWrite, options: [.create], permissions: [.ownerReadWrite])
            try Files.resize(file.raw, name, to: byteCount)
        }
        try Self.run(["mkntfs", "-F", "-f", "-Q", "-q", "-p", "\(offset / 512)", "-s", "512", volume.string])
        let loop = String(
            decoding: try Self.run(["losetup", "--find", "--show", volume.string]), as: UTF8.self
        ).split(separator: "\n").joined()
        defer { _ = try? Self.run(["losetup", "-d", loop]) }
        let output = try MountedScript.run(
            mount: "ntfs-3g \"$node\" \"$place\"", loop, on: folder.path.appending("mounted"), script,
            arguments: [folder.path.string])
        try #require(output.succeeded, "\(output.lastWords)")
        try Self.run([
            "dd", "if=\(volume)", "of=\(image)", "bs=1M", "seek=\(offset >> 20)", "conv=notrunc,sparse", "status=none",
        ])
        try Files.remove(volume)
    }

    // MARK: Boot repair

    func bytes() throws -> [UInt8] { try BlockDevice(opening: image).readBytes(at: 0, count: Int(Self.byteCount)) }

    static func options(_ firmware: Firmware = .uefi, _ modaliases: [String]? = nvme) -> BootRepairOptions {
        BootRepairOptions(
            firmware: firmware, inRecoveryEnvironment: false, machine: modaliases.map { machine(firmware, $0) })
    }

    /// A machine with one controller.
    static func machine(_ firmware: Firmware, _ modaliases: [String]) -> MachineRecord {
        let disk = MachineRecord.Disk(
            name: "disk", transport: "other", byteCount: byteCount,
            devices: modaliases.map { DeviceDriver(modalias: $0) })
        return MachineRecord(firmware: firmware, disks: [disk])
    }

    func plan(_ options: BootRepairOptions = WindowsDisk.options()) throws -> BootRepairPlan {
        let survey = try BootRepair.survey(disk: try BlockDevice(opening: image), options: options)
        return BootRepair.plan(survey, options: options)
    }

    func execute(_ plan: BootRepairPlan) throws -> BootRepairOutcome {
        try BootRepair.execute(plan, disk: try BlockDevice(opening: image))
    }

    // MARK: Judges

    /// The store, read by mtools.
    func storeFromESP() throws -> FilePath {
        let copy = folder.path.appending("BCD.judged")
        try Files.write(
            try Self.run(["mtype", "-i", "\(image)@@\(Self.mebibyte)", "::EFI/Microsoft/Boot/BCD"]), to: copy)
        return copy
    }

    /// A file of an NTFS, read by ntfscat.
    func fromNTFS(_ path: String, at offset: UInt64 = WindowsDisk.windowsStart) throws -> FilePath {
        let volume = folder.path.appending("volume.judged")
        defer { try? Files.remove(volume) }
        try Self.run([
            "dd", "if=\(image)", "of=\(volume)", "bs=1M", "skip=\(offset >> 20)", "conv=sparse", "status=none",
        ])
        let copy = folder.path.appending("file.judged")
        try Files.write(try Self.run(["ntfscat", "-f", volume.string, path]), to: copy)
        return copy
    }

    /// A hive as hivexregedit exports it.
    static func exported(_ hive: FilePath) throws -> [String] {
        String(decoding: try run(["hivexregedit", "--export", hive.string, "\\"]), as: UTF8.self)
            .split(separator: "\n").map(String.init)
    }
}
