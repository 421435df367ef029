// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemAccess
import SystemPackage
import Testing

@testable import BootRepair

private let canMount =
    SystemFacts.isRoot && Files.exists("/dev/loop-control") && BootSurveyor.kernelKnows("btrfs")
    && Files.exists("/usr/bin/btrfs") && Files.exists("/usr/sbin/mkfs.btrfs")

/// T4: a system in a subvolume of Btrfs, through loop devices and real mounts.
@Suite(.serialized, .enabled(if: canMount, "needs root, loop devices, the kernel's Btrfs and btrfs-progs"))
struct MountedSubvolumeTests {
    static let mebibyte: UInt64 = 1 << 20
    static let place = mebibyte..<150 * mebibyte
    static let fstab = "/dev/sda1 / btrfs subvol=@ 0 0\n/dev/sda1 /boot btrfs subvol=@boot 0 0\n"

    /// A disk with one Btrfs of the subvolumes `@` and `@boot`, and `systems`, each with a system of that name.
    static func withDisk(
        systems: [String], _ body: (_ image: FilePath, _ uuid: String) throws -> Void
    ) throws {
        // Neither the kernel nor mkfs accepts a second Btrfs with the same UUID, and others may be attached.
        let uuid = GUID.random().description.lowercased()
        let folder = try Files.makeTemporaryFolder("reforge-boot-test")
        defer { _ = try? ChildProcess.run(["rm", "-rf", "--one-file-system", folder.string]) }
        func run(_ command: [String], input: String = "") throws {
            let output = try ChildProcess.run(command, input: Array(input.utf8))
            try #require(output.succeeded, "\(command): \(output.lastWords)")
        }
        let image = folder.appending("disk.raw")
        do {
            let file = try OwnedDescriptor.open(image, .readWrite, options: [.create], permissions: [.ownerReadWrite])
            try Files.resize(file.raw, image.string, to: 152 * mebibyte)
        }
        try run(
            ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", image.string],
            input: "label: gpt\nstart=2048, size=\((place.upperBound - place.lowerBound) / 512)\n")
        let mounted = folder.appending("mounted")
        try Files.makeFolders(mounted)
        do {
            let loop = try LoopDevice(over: image, range: place)
            try run(["mkfs.btrfs", "-q", "-U", uuid, loop.path.string])
            try Mount.permanent(loop.path.string, on: mounted, type: "btrfs")
            defer {
                // Another process may be reading it at this moment.
                var tries = 50
                while (try? Mount.unmount(mounted)) == nil, tries > 0 {
                    tries -= 1
                    SystemFacts.sleep(seconds: 0.1)
                }
            }
            try run(["btrfs", "-q", "subvolume", "create", mounted.appending("@boot").string])
            try Files.makeFolders(mounted.appending("@boot/grub"))
            try Files.write(
                Array("linux /v root=UUID=\(uuid) rootflags=subvol=@\n".utf8),
                to: mounted.appending("@boot/grub/grub.cfg"))
            try Files.write([], to: mounted.appending("@boot/vmlinuz-1"))
            try Files.write(Fixture.initramfs, to: mounted.appending("@boot/initrd.img-1"))
            for name in systems {
                let system = mounted.appending(name)
                try run(["btrfs", "-q", "subvolume", "create", system.string])
                try Files.makeFolders(system.appending("etc"))
                try Files.makeFolders(system.appending("boot"))
                try Files.write(Array(fstab.utf8), to: system.appending("etc/fstab"))
                try Files.write(
                    Array("ID=debian\nPRETTY_NAME=\"\(name)\"\n".utf8), to: system.appending("etc/os-release"))
            }
        }
        try body(image, uuid)
    }

    static let options = BootRepairOptions(firmware: .bios, inRecoveryEnvironment: false)

    @Test func aSystemInASubvolumeIsFoundAndMended() throws {
        try Self.withDisk(systems: ["@", "@-snapshot"]) { image, uuid in
            let disk = try BlockDevice(opening: image)
            let before = try disk.readBytes(at: 0, count: Int(disk.byteCount))
            let survey = try BootRepair.survey(disk: disk, options: Self.options)
            #expect(try disk.readBytes(at: 0, count: Int(disk.byteCount)) == before, "a survey only reads")
            let system = try #require(survey.system, "\(survey.systemFindings)")
            #expect(system.name == "@")
            #expect(system.rootSubvolume == "@")
            #expect(survey.grub?.path == "/@boot/grub", "as GRUB sees it, from the top level")
            #expect(survey.grub?.configurationProblems == [])
            let plan = BootRepair.plan(survey, options: Self.options)
            #expect(
                plan.mounts == [
                    .init(partition: 1, path: "/", subvolume: "@"),
                    .init(partition: 1, path: "/boot", subvolume: "@boot"),
                ])
            let outcome = try BootRepair.execute(plan, disk: disk)
            #expect(outcome.changed.count == 1, "\(outcome)")
            #expect(outcome.pending == nil, "\(outcome)")
            // The snapshot is unchanged.
            let volume = try #require(survey.volume(1))
            for (name, wanted) in [("@", "UUID=\(uuid) /"), ("@-snapshot", "/dev/sda1 /")] {
                let tree = try SystemTree(volume, subvolume: name, of: disk, readOnly: true)
                defer { try? tree.close() }
                #expect(try tree.anchored().text("/etc/fstab")?.hasPrefix(wanted) == true)
            }
            let second = BootRepair.plan(
                try BootRepair.survey(disk: disk, options: Self.options), options: Self.options)
            #expect(second.isEmpty, "\(second)")
            #expect(MountedSystemTests.leftovers(image).isEmpty)
        }
    }

    @Test func ofTwoSystemsNoneIsTouched() throws {
        try Self.withDisk(systems: ["@-one", "@-two"]) { image, _ in
            let disk = try BlockDevice(opening: image)
            let survey = try BootRepair.survey(disk: disk, options: Self.options)
            #expect(survey.system == nil)
            #expect(survey.systemFindings.contains { $0.sentence.contains("@-one, @-two") }, "\(survey.systemFindings)")
            #expect(BootRepair.plan(survey, options: Self.options).steps.isEmpty)
            #expect(MountedSystemTests.leftovers(image).isEmpty)
        }
    }

    /// Text from an fstab becomes an option of mount(2).
    @Test func aSubvolumeIsNoSecondOption() throws {
        try Self.withDisk(systems: ["@"]) { image, _ in
            let disk = try BlockDevice(opening: image)
            let volume = try #require(try BootRepair.survey(disk: disk, options: Self.options).volume(1))
            #expect(throws: SystemCallError.self) {
                _ = try SystemTree(volume, subvolume: "@,degraded", of: disk, readOnly: true)
            }
            #expect(MountedSystemTests.leftovers(image).isEmpty)
        }
    }
}
