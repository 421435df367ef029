// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemAccess
import SystemPackage
import Testing

@testable import BootRepair

/// A disk with a system whose update-initramfs is a script, attached as a loop device.
final class RebuildDisk {
    static let mebibyte: UInt64 = 1 << 20
    static let version = "6.1.0-1-amd64"
    static let image = "/boot/initrd.img-\(version)"
    static let busybox = FilePath("/bin/busybox")

    static let canBeMade: Bool =
        SystemFacts.isRoot && Files.exists("/dev/loop-control") && Files.exists(busybox)
        && ["mke2fs", "sfdisk", "cpio", "mkfs.fat", "mcopy"].allSatisfy(ChildProcess.canFind)

    /// A machine whose disk hangs on AHCI.
    static let machine = MachineRecord(
        firmware: .bios,
        disks: [
            .init(
                name: "sda", transport: "sata", byteCount: 1,
                devices: [
                    DeviceDriver(modalias: "scsi:t-0x00", driver: "sd", module: "sd_mod"),
                    DeviceDriver(modalias: "pci:v00008086d00002922sv0sd0bc01sc06i01", driver: "ahci", module: "ahci"),
                ])
        ])
    static let options = BootRepairOptions(firmware: .bios, inRecoveryEnvironment: true, machine: machine)

    let folder: FilePath
    let disk: LoopDevice

    /// - Parameters:
    ///   - script: the lines of update-initramfs; `$1` to `$4` are `-c -t -k VERSION`.
    ///   - present: the modules in the initramfs that it has.
    ///   - kernelInstall: the lines of kernel-install; with them, systemd-boot starts a copy of the initramfs from an
    ///     EFI system partition.
    ///   - prepare: changes the tree before the filesystem is made of it.
    init(
        script: String, present: [String] = ["sd_mod", "ext4"], kernelInstall: String? = nil,
        prepare: (FilePath) throws -> Void = { _ in }
    ) throws {
        folder = try Files.makeTemporaryFolder("reforge-rebuild-test")
        let tree = folder.appending("tree")
        for name in [
            "bin", "usr/sbin", "etc/initramfs-tools/conf.d", "boot", "lib/modules/\(Self.version)", "spare",
        ] { try Files.makeFolders(tree.appending(name)) }
        func write(_ text: String, _ name: String) throws {
            try Files.write(Array(text.utf8), to: tree.appending(name))
        }
        try write(
            "UUID=\(Fixture.rootUUID) / ext4 defaults 0 1\n"
                + (kernelInstall == nil ? "" : "UUID=5EED-0002 /boot/efi vfat defaults 0 1\n"), "etc/fstab")
        try write("ID=debian\nPRETTY_NAME=\"Debian of a test\"\n", "etc/os-release")
        try write("# list\nloop", "etc/initramfs-tools/modules")
        try write("", "boot/vmlinuz-\(Self.version)")
        let modules = "lib/modules/\(Self.version)/"
        try write("a/ahci.ko: a/libahci.ko\na/libahci.ko:\na/sd_mod.ko:\na/ext4.ko:\n", modules + "modules.dep")
        try write(
            "alias pci:v*d*sv*sd*bc01sc06i01* ahci\nalias scsi:t-0x00* sd_mod\nalias fs-ext4 ext4\n",
            modules + "modules.alias")
        try Self.initramfs(present, at: tree.appending("boot/initrd.img-\(Self.version)"), folder)
        try Self.initramfs(present + ["libahci", "ahci"], at: tree.appending("spare/whole"), folder)
        try Self.initramfs(present + ["ahci"], at: tree.appending("spare/lacking"), folder)
        let copy = try ChildProcess.run(["cp", Self.busybox.string, tree.appending("bin/busybox").string])
        try #require(copy.succeeded)
        for case (let name, let text?) in [
            ("update-initramfs", script), ("mkinitramfs", ""), ("kernel-install", kernelInstall),
        ] {
            let path = tree.appending("usr/sbin/\(name)")
            try Files.write(Array("#!/bin/busybox sh\n\(text)\n".utf8), to: path)
            try Files.setPermissions(path, FilePermissions(rawValue: 0o755))
        }
        try prepare(tree)
        let image = folder.appending("disk.raw")
        do {
            let file = try OwnedDescriptor.open(image, .readWrite, options: [.create], permissions: [.ownerReadWrite])
            try Files.resize(file.raw, image.string, to: 64 * Self.mebibyte)
        }
        let table =
            "label: gpt\nunit: sectors\nstart=4096, size=120000, type=\(PartitionType.linuxFilesystem)\n"
            + "start=124096, size=6144, type=\(PartitionType.efiSystem)\n"
        let made = try ChildProcess.run(
            ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", image.string], input: Array(table.utf8))
        try #require(made.succeeded, "\(made.lastWords)")
        let filled = try ChildProcess.run([
            "mke2fs", "-q", "-F", "-t", "ext4", "-U", Fixture.rootUUID, "-d", tree.string, "-E",
            "offset=\(2 * Self.mebibyte)", image.string, "58M",
        ])
        try #require(filled.succeeded, "\(filled.lastWords)")
        if kernelInstall != nil {
            try Self.fillESP(of: image, folder, tree.appending("boot/initrd.img-\(Self.version)"))
        }
        disk = try LoopDevice(over: image, range: 0..<64 * Self.mebibyte)
    }

    deinit { _ = try? ChildProcess.run(["rm", "-rf", "--one-file-system", folder.string]) }

    /// The copy of the initramfs that systemd-boot's entry names, inside of the EFI system partition.
    static let copy = "/5eed/\(version)/initrd.img"

    /// FAT12 with an entry, a kernel and the copy.
    private static func fillESP(of image: FilePath, _ folder: FilePath, _ initramfs: FilePath) throws {
        func run(_ command: [String]) throws {
            let output = try ChildProcess.run(command)
            try #require(output.succeeded, "\(command): \(output.lastWords)")
        }
        try run(["mkfs.fat", "-F", "12", "-i", "5EED0002", "--offset", "124096", image.string, "3072"])
        let volume = "\(image)@@\(124096 * 512)"
        try run(["mmd", "-i", volume, "::/loader", "::/loader/entries", "::/5eed", "::/5eed/\(version)"])
        let entry = folder.appending("entry")
        try Files.write(
            Array(
                """
                title Test
                version \(version)
                linux /5eed/\(version)/linux
                initrd \(copy)
                options root=UUID=\(Fixture.rootUUID)

                """.utf8), to: entry)
        try run(["mcopy", "-i", volume, entry.string, "::/loader/entries/test.conf"])
        try run(["mcopy", "-i", volume, entry.string, "::/5eed/\(version)/linux"])
        try run(["mcopy", "-i", volume, initramfs.string, "::\(copy)"])
    }

    /// A file of the EFI system partition; `nil` if there is none.
    func fileOnESP(_ path: String) throws -> [UInt8]? {
        let device = try BlockDevice(opening: disk.path)
        let survey = try survey()
        let tree = try SystemTree(try #require(survey.volume(2)), of: device, readOnly: true)
        defer { try? tree.close() }
        return try? tree.anchored().read(path)
    }

    /// An archive of GNU cpio with these modules.
    private static func initramfs(_ modules: [String], at path: FilePath, _ scratch: FilePath) throws {
        let root = scratch.appending("root-\(path.lastComponent?.string ?? "")")
        try Files.makeFolders(root.appending("conf"))
        try Files.makeFolders(root.appending("lib/modules/\(version)"))
        try Files.write(Array("MODULES=dep\n".utf8), to: root.appending("conf/initramfs.conf"))
        var names = ["conf/initramfs.conf"]
        for module in modules {
            names.append("lib/modules/\(version)/\(module).ko")
            try Files.write([1, 2, 3], to: root.appending("lib/modules/\(version)/\(module).ko"))
        }
        let made = try ChildProcess.run(
            ["cpio", "-o", "-H", "newc", "--quiet", "-D", root.string],
            input: Array((names.joined(separator: "\n") + "\n").utf8))
        try #require(made.succeeded, "\(made.lastWords)")
        try Files.write(made.standardOutput, to: path)
    }

    /// A survey as on a kernel that shows the partitions of the disk.
    func survey() throws -> SystemBootSurvey {
        var survey = try BootRepair.survey(disk: try BlockDevice(opening: disk.path), options: Self.options)
        survey.access = .partitionNodes
        survey.accessProblem = nil
        return survey
    }

    /// Plans, and runs only the rebuilds.
    func repair(steps: Int = 1) throws -> BootRepairOutcome {
        var plan = BootRepair.plan(try survey(), options: Self.options)
        plan.steps = plan.steps.filter { if case .rebuildInitramfs = $0.verb { true } else { false } }
        // The disk has no loader.
        plan.pendingReason = nil
        try #require(plan.steps.count == steps, "\(plan)")
        return try BootRepair.execute(plan, disk: try BlockDevice(opening: disk.path))
    }

    /// A file of the system; `nil` if there is none.
    func file(_ path: String) throws -> [UInt8]? {
        let device = try BlockDevice(opening: disk.path)
        let survey = try survey()
        let tree = try SystemTree(try #require(survey.volume(1)), of: device, readOnly: true)
        defer { try? tree.close() }
        return try? tree.anchored().read(path)
    }
}
