// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemAccess
import SystemPackage
import Testing

@testable import BootRepair

/// The requirements of these tests; without them the tests are skipped with a message.
private enum Ability {
    static let all: Bool =
        SystemFacts.isRoot && Files.exists("/dev/loop-control")
        && ["mke2fs", "sfdisk", "e2fsck"].allSatisfy { tool in
            ["/sbin", "/usr/sbin", "/bin", "/usr/bin"].contains { Files.exists(FilePath("\($0)/\(tool)")) }
        }
}

/// T4: a small disk file with a system of a few files, through loop devices and real mounts.
@Suite(.serialized, .enabled(if: Ability.all, "needs root, loop devices, sfdisk and e2fsprogs"))
struct MountedSystemTests {
    static let mebibyte: UInt64 = 1 << 20
    static let rootStart = 2 * mebibyte

    /// A 64 MiB disk: BIOS boot partition at 1 MiB, ext4 at 2 MiB. The boot chain points elsewhere, and fstab names
    /// /dev/sda2.
    static func withDisk(
        fstab: String = "/dev/sda2  / ext4 defaults 0 1\n", etcLink: String? = nil, _ body: (FilePath) throws -> Void
    ) throws {
        let folder = try Files.makeTemporaryFolder("reforge-boot-test")
        defer { _ = try? ChildProcess.run(["rm", "-rf", "--one-file-system", folder.string]) }
        let tree = folder.appending("tree")
        try Files.makeFolders(tree.appending("boot/grub"))
        if let etcLink {
            try Files.makeLink(tree.appending("etc"), to: etcLink)
        } else {
            try Files.makeFolders(tree.appending("etc"))
            try Files.write(Array(fstab.utf8), to: tree.appending("etc/fstab"))
            try Files.write(
                Array("ID=debian\nPRETTY_NAME=\"Debian of a test\"\n".utf8), to: tree.appending("etc/os-release"))
        }
        let configuration =
            "menuentry x {\nsearch --fs-uuid --set=root \(Fixture.rootUUID)\nlinux /v root=UUID=\(Fixture.rootUUID)\n}\n"
        try Files.write(Array(configuration.utf8), to: tree.appending("boot/grub/grub.cfg"))
        try Files.write([], to: tree.appending("boot/vmlinuz-1"))
        try Files.write(Fixture.initramfs, to: tree.appending("boot/initrd.img-1"))
        let image = folder.appending("disk.raw")
        do {
            let file = try OwnedDescriptor.open(image, .readWrite, options: [.create], permissions: [.ownerReadWrite])
            try Files.resize(file.raw, image.string, to: 64 * mebibyte)
        }
        let table =
            "label: gpt\nunit: sectors\nstart=2048, size=2048, type=\(PartitionType.biosBoot)\nstart=4096, size=120000, type=\(PartitionType.linuxFilesystem)\n"
        let made = try ChildProcess.run(
            ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", image.string], input: Array(table.utf8))
        try #require(made.succeeded, "\(made.lastWords)")
        let filled = try ChildProcess.run([
            "mke2fs", "-q", "-F", "-t", "ext4", "-U", Fixture.rootUUID, "-d", tree.string, "-E", "offset=\(rootStart)",
            image.string, "58M",
        ])
        try #require(filled.succeeded, "\(filled.lastWords)")
        let disk = try BlockDevice(opening: image, .exclusiveWrite)
        let block = try disk.readBytes(at: 0, count: 512)
        try disk.writeBytes(Array(Fixture.bootSector(coreSector: 34)[..<440]) + block[440...], at: 0)
        try disk.writeBytes(Fixture.core(sectors: 60, start: 34), at: mebibyte)
        try disk.flush()
        try body(image)
    }

    static let options = BootRepairOptions(firmware: .bios, inRecoveryEnvironment: false)

    /// Loop devices still attached to `image`: each mount holds one.
    ///
    /// A loop device opened by another process during its release (another test reads the UUIDs of all of them)
    /// disappears when that process closes it: wait for that.
    static func leftovers(_ image: FilePath) -> [String] {
        let deadline = SystemFacts.monotonicSeconds() + 10
        while true {
            let found = Files.names(in: "/sys/block").filter {
                Files.text(FilePath("/sys/block/\($0)/loop/backing_file")) == image.string
            }
            if found.isEmpty || SystemFacts.monotonicSeconds() > deadline { return found }
            SystemFacts.sleep(seconds: 0.1)
        }
    }

    @Test func surveyPlanExecuteAndAgain() throws {
        try Self.withDisk { image in
            let disk = try BlockDevice(opening: image)
            let before = try disk.readBytes(at: 0, count: Int(disk.byteCount))
            let survey = try BootRepair.survey(disk: disk, options: Self.options)
            #expect(try disk.readBytes(at: 0, count: Int(disk.byteCount)) == before, "a survey only reads")
            #expect(survey.system?.name == "Debian of a test")
            #expect(survey.access == .loopDevices)
            #expect(survey.bios.chain == .misdirected)
            let plan = BootRepair.plan(survey, options: Self.options)
            #expect(plan.steps.count == 2, "\(plan)")
            let outcome = try BootRepair.execute(plan, disk: disk)
            #expect(outcome.changed.count == 2)
            #expect(outcome.pending == nil, "\(outcome)")
            // Again: everything is right.
            let second = try BootRepair.survey(disk: disk, options: Self.options)
            #expect(second.bios.chain == .right)
            #expect(second.system?.fstab.map(\.device) == ["UUID=\(Fixture.rootUUID)"])
            let secondPlan = BootRepair.plan(second, options: Self.options)
            #expect(secondPlan.isEmpty, "\(secondPlan)")
            let nothing = try BootRepair.execute(secondPlan, disk: disk)
            #expect(nothing.changed.isEmpty)
            // The filesystem is whole, and clean.
            let loop = try LoopDevice(over: image, range: Self.rootStart..<60 * Self.mebibyte, readOnly: true)
            let check = try ChildProcess.run(["e2fsck", "-f", "-n", loop.path.string])
            _ = consume loop
            #expect(check.succeeded, "\(check.lastWords)")
            #expect(Self.leftovers(image).isEmpty)
        }
    }

    @Test func planForAnotherDiskIsRefused() throws {
        try Self.withDisk { image in
            let disk = try BlockDevice(opening: image)
            var plan = BootRepair.plan(try BootRepair.survey(disk: disk, options: Self.options), options: Self.options)
            plan.diskGUID = Fixture.guid(9)
            let before = try disk.readBytes(at: 0, count: Int(disk.byteCount))
            #expect(throws: BootRepairError.self) { try BootRepair.execute(plan, disk: disk) }
            plan.diskGUID = nil
            plan.volumes[1].range = 0..<4096
            #expect(throws: BootRepairError.self) { try BootRepair.execute(plan, disk: disk) }
            #expect(try disk.readBytes(at: 0, count: Int(disk.byteCount)) == before)
        }
    }

    /// Links of the restored system cannot lead outside.
    @Test(arguments: ["../../../../../../../../etc", "/etc", "/proc/self/root/etc"])
    func linksDoNotLeadOut(_ target: String) throws {
        try Self.withDisk(etcLink: target) { image in
            let disk = try BlockDevice(opening: image)
            let survey = try BootRepair.survey(disk: disk, options: Self.options)
            // This machine's own /etc has an os-release; the disk's, resolved inside the disk, has none.
            #expect(survey.system == nil)
            #expect(Self.leftovers(image).isEmpty)
        }
    }

    @Test func aTreeUnmountsInReverseAndOnErrors() throws {
        try Self.withDisk { image in
            let disk = try BlockDevice(opening: image)
            let survey = try BootRepair.survey(disk: disk, options: Self.options)
            let root = try #require(survey.volume(2))
            let tree = try SystemTree(root, of: disk, readOnly: false)
            try tree.mount(root, at: "/boot/inner")
            #expect(throws: SystemCallError.self) {
                // No filesystem there.
                var wrong = root
                wrong.range = 0..<1 << 20
                try tree.mount(wrong, at: "/boot/other")
            }
            #expect(MountEntry.current().count { $0.mountPoint.hasPrefix(tree.root.string) } == 2)
            try tree.close()
            #expect(!MountEntry.current().contains { $0.mountPoint.hasPrefix(tree.root.string) })
            #expect(!Files.exists(tree.root))
            #expect(Self.leftovers(image).isEmpty)
        }
    }
}
