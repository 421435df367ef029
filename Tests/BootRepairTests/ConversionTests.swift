// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemAccess
import SystemPackage
import TestSupport
import Testing

@testable import BootRepair

/// Boot repair of a disk that was restored for the other firmware: no loader of it is there, and the system may have no
/// tools for it.
@Suite struct ConversionTests {
    private func formerBIOS(platforms: [String] = ["i386-pc"]) -> SystemBootSurvey { Fixture.formerBIOS(platforms) }

    private func grub(_ plan: BootRepairPlan) -> [GrubStep] { plan.steps.compactMap { $0.record as? GrubStep } }
    private func lines(_ plan: BootRepairPlan) -> [String] {
        plan.steps.compactMap { if case .addLines(let addition) = $0.verb { addition.lines } else { nil } }.flatMap {
            $0
        }
    }

    @Test func theMediumsGRUBIsWritten() throws {
        let plan = BootRepair.plan(formerBIOS(), options: Fixture.medium(.uefi))
        #expect(plan.pendingReason == nil, "\(plan)")
        let write = try #require(
            grub(plan).lazy.compactMap { if case .writeGrubEFI(let write) = $0 { write } else { nil } }.first)
        #expect(write.folder == "debian" && write.modulesFolder == nil && write.modules.contains("ext2"))
        #expect(
            write.configuration
                == "search.fs_uuid \(Fixture.rootUUID) root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
        )
        // The grub.cfg beside it is what tells the next survey where the loader looks.
        #expect(GrubConfiguration.searchedUUIDs(in: Array(write.configuration.utf8)) == [Fixture.rootUUID])
        #expect(lines(plan) == ["UUID=\(Fixture.espUUID) /boot/efi vfat umask=0077,nofail 0 2"])
        #expect(plan.steps.contains { "\($0)".contains("make the fallback loader") })
        #expect(plan.steps.contains { "\($0)".contains("add the firmware boot entry") })
        #expect(plan.findings.map(\.code).contains("grub-from-medium"))
        #expect(plan.findings.filter { $0.severity == .stops && $0.isOpen }.isEmpty)
        #expect(plan.mounts.map(\.path) == ["/", "/boot/efi"])
    }

    @Test func theSystemsOwnToolsComeFirst() {
        let plan = BootRepair.plan(
            formerBIOS(platforms: ["i386-pc", "x86_64-efi"]), options: Fixture.medium(.uefi))
        #expect(
            grub(plan).contains {
                if case .runGrubInstall("x86_64-efi", _, _, _) = $0 { true } else { false }
            })
        #expect(lines(plan).count == 1)
        #expect(!plan.findings.map(\.code).contains("grub-from-medium"))
    }

    /// A file without nodes for its partitions: the system's programs cannot run, its modules are used anyway.
    @Test func theSystemsModulesAreUsedWithoutItsPrograms() throws {
        var survey = formerBIOS(platforms: ["x86_64-efi"])
        survey.access = .loopDevices
        let write = try #require(
            grub(BootRepair.plan(survey, options: Fixture.workstation(.uefi))).lazy.compactMap {
                if case .writeGrubEFI(let write) = $0 { write } else { nil }
            }.first)
        #expect(write.modulesFolder == "/usr/lib/grub/x86_64-efi")
    }

    @Test func whatCannotBeMadeStaysPending() {
        for change in 0..<5 {
            var survey = formerBIOS()
            switch change {
            case 0: survey.grubEFI?.ownTools = []
            case 1: survey.grub?.configurationProblems = nil
            case 2: survey.grub?.usesLoaderEntries = true
            // Text of the disk that would be read as commands.
            case 3: survey.grub?.path = "/boot/gr'\nhalt\n'ub"
            default: survey.kernelMountsFAT = false
            }
            let plan = BootRepair.plan(survey, options: Fixture.medium(.uefi))
            #expect(plan.pendingReason != nil, "case \(change): \(plan)")
            #expect(!grub(plan).contains { if case .writeGrubEFI = $0 { true } else { false } }, "case \(change)")
        }
    }

    /// The medium's GRUB opens no LUKS volume, and starts no array: it would only replace one failure by another.
    @Test(arguments: [true, false]) func aBootInsideOfAContainerIsNotPromised(isLogicalVolume: Bool) {
        var survey = formerBIOS()
        survey.volumes[2].inside = .init(partition: 3, containers: [.luks(uuid: "x")])
        if isLogicalVolume { survey.volumes[2].logicalVolume = .init(name: "vg/root", partition: 3) }
        let uefi = BootRepair.plan(survey, options: Fixture.medium(.uefi))
        #expect(uefi.pendingReason != nil, "\(uefi)")
        #expect(!grub(uefi).contains { if case .writeGrubEFI = $0 { true } else { false } })
        survey = Fixture.survey(.bios)
        survey.bios = GrubBIOSFinding(
            chain: .noCoreImage, problem: "there is a BIOS boot partition", biosBootPartition: 1,
            ownTools: ["grub-mkimage", "boot.img", "i386-pc"])
        survey.grub?.platforms = ["x86_64-efi"]
        survey.grub?.hasCoreImage = false
        survey.grub?.bootImage = nil
        survey.volumes[2].inside = .init(partition: 3, containers: [.luks(uuid: "x")])
        if isLogicalVolume { survey.volumes[2].logicalVolume = .init(name: "vg/root", partition: 3) }
        let bios = BootRepair.plan(survey, options: Fixture.medium(.bios))
        #expect(bios.pendingReason != nil, "\(bios)")
        #expect(!grub(bios).contains { if case .writeBIOSBoot = $0 { true } else { false } })
    }

    @Test func secureBootIsSaidBeforeTheRestart() {
        var options = Fixture.medium(.uefi)
        options.machine = MachineRecord(firmware: .uefi, secureBoot: true)
        let plan = BootRepair.plan(formerBIOS(), options: options)
        #expect(plan.findings.contains { $0.code == "secure-boot-unsigned" && $0.severity == .stops })
    }

    @Test func aForeignFallbackLoaderIsKept() {
        var survey = formerBIOS()
        survey.esp?.fallback = .foreign(owner: "Windows Boot Manager")
        let plan = BootRepair.plan(survey, options: Fixture.medium(.uefi))
        #expect(!plan.steps.contains { "\($0)".contains("fallback") })
        #expect(plan.steps.contains { "\($0)".contains("make GRUB for UEFI") })
    }

    /// UEFI → BIOS, with /boot on a logical volume: core.img from the medium finds it by LVM's name.
    @Test func coreImageFindsALogicalVolume() throws {
        var survey = Fixture.survey(.bios)
        survey.bios = GrubBIOSFinding(
            chain: .noCoreImage, problem: "there is a BIOS boot partition", biosBootPartition: 1,
            ownTools: ["grub-mkimage", "boot.img", "i386-pc"])
        survey.grub?.platforms = ["x86_64-efi"]
        survey.grub?.hasCoreImage = false
        survey.grub?.bootImage = nil
        survey.volumes[2].logicalVolume = .init(name: "vg-a/root", partition: 3)
        let plan = BootRepair.plan(survey, options: Fixture.medium(.bios))
        let write = try #require(
            grub(plan).lazy.compactMap { if case .writeBIOSBoot(let write) = $0 { write } else { nil } }.first)
        guard case .made(let folder, let prefix, let modules) = write.core else {
            Issue.record("\(write)")
            return
        }
        #expect(folder == nil && prefix == "(lvm/vg--a-root)/boot/grub")
        #expect(Array(modules.prefix(4)) == ["biosdisk", "part_gpt", "lvm", "ext2"])
        #expect(plan.findings.map(\.code).contains("grub-from-medium"))
    }

    // MARK: references by number

    private static let menu = """
        set root='hd0,msdos3'
        search --no-floppy --fs-uuid --set=root --hint-bios=hd0,msdos3 --hint-efi=hd0,msdos3 \(Fixture.rootUUID)
        menuentry 'Debian' {
        \tset root='hd0,msdos3'
        \tlinux /boot/vmlinuz root=/dev/sda3 ro
        }
        menuentry 'another disk' {
        \tset root='hd1,msdos3'
        \tsearch --fs-uuid --set=root 99999999-0000-4000-8000-000000000003
        \tlinux /boot/vmlinuz root=UUID=99999999-0000-4000-8000-000000000003
        }
        menuentry 'no such partition' {
        \tset root='hd0,msdos9'
        \tlinux /boot/vmlinuz root=UUID=\(Fixture.rootUUID)
        }

        """

    @Test func namesInTheMenuFollowTheTable() {
        let changes = GrubTableNames.changes(in: Self.menu, volumes: Fixture.volumes, rootPartition: 3)
        let new = WordChange.apply(changes, to: Self.menu)
        #expect(new.contains("--hint-bios=hd0,gpt3 --hint-efi=hd0,gpt3"))
        #expect(new.split(separator: "\n").filter { $0.contains("'hd0,gpt3'") }.count == 2)
        // Of another disk, and of no partition.
        #expect(new.contains("'hd1,msdos3'") && new.contains("'hd0,msdos9'"))
        #expect(GrubTableNames.changes(in: new, volumes: Fixture.volumes, rootPartition: 3).isEmpty)
        var survey = Fixture.survey(.uefi)
        survey.grub?.tableNames = [.init(path: "/boot/grub/grub.cfg", changes: changes)]
        let plan = BootRepair.plan(survey, options: Fixture.medium(.uefi))
        #expect(plan.findings.map(\.code) == ["grub-mbr-names"])
        #expect(plan.steps.count == 1)
    }

    @Test func capturedPARTUUIDsOfAnMBRAreResolved() {
        let fstab = Fstab("PARTUUID=5eed0001-03 / ext4 defaults 0 1\nPARTUUID=5EED0001-04 none swap sw 0 0\n")
        let names = ["5eed0001-03": 3, "5eed0001-04": 4]
        let resolver = FstabResolver(volumes: Fixture.volumes, rootPartition: 3, capturedPartUUIDs: names)
        #expect(resolver.resolve(fstab.entries).map(\.resolution) == [.moved(partition: 3), .moved(partition: 4)])
        // Boot repair at a later time: only the root's own number shows that the signature was this disk's.
        let later = FstabResolver(volumes: Fixture.volumes, rootPartition: 3)
        #expect(later.resolve(fstab.entries).map(\.resolution) == [.moved(partition: 3), .moved(partition: 4)])
        let unknown = Fstab(
            "PARTUUID=5eed0001-02 / ext4 defaults 0 1\nPARTUUID=5eed0001-04 none swap sw 0 0\n"
                + "PARTUUID=5eed0002-04 none swap sw 0 0\n")
        #expect(later.resolve(unknown.entries).map(\.resolution) == [.elsewhere, .elsewhere, .elsewhere])
        // A filesystem of another type is not that partition.
        let wrong = Fstab("PARTUUID=5eed0001-03 /data xfs defaults 0 1\n")
        #expect(resolver.resolve(wrong.entries).map(\.resolution) == [.elsewhere])
    }

    @Test func linesAreAddedOnce() {
        let addition = LineAddition(TreePath(.system, "/etc/fstab"), ["new 1", "new 2"], done: "")
        func added(_ text: String) -> String { String(decoding: addition.apply(to: Array(text.utf8)), as: UTF8.self) }
        #expect(added("old") == "old\nnew 1\nnew 2\n")
        #expect(added("new 1\n") == "new 1\nnew 2\n")
        #expect(added(added("old\n")) == "old\nnew 1\nnew 2\n")
        #expect(added("") == "new 1\nnew 2\n")
    }

    /// A comment in Latin-1 is not rewritten with its file.
    @Test func bytesThatAreNoUTF8AreKept() {
        let latin: [UInt8] = Array("# f".utf8) + [0xFC, 0x72, 10]
        let addition = LineAddition(TreePath(.system, "/etc/fstab"), ["new"], done: "")
        #expect(addition.apply(to: latin) == latin + Array("new\n".utf8))
        let text = latin + Array("/dev/sda3   /  ext4 ".utf8) + [0xFC]
        let change = WordChange(line: 1, word: 0, from: "/dev/sda3", to: "UUID=abcdef")
        let new = WordChange.apply([change], to: text)
        #expect(new.bytes == latin + Array("UUID=abcdef /  ext4 ".utf8) + [0xFC] && new.missed.isEmpty)
        // Idempotent; another word is not a success.
        #expect(WordChange.apply([change], to: new.bytes) == (new.bytes, []))
        #expect(WordChange.apply([change], to: latin).missed == [change])
        let other = latin + Array("/dev/sdb3 / ext4\n".utf8)
        #expect(WordChange.apply([change], to: other) == (other, [change]))
    }

    /// grub-mkimage takes every module of the list, and the image names the folder of its configuration.
    @Test(
        .enabled(
            if: ChildProcess.canFind("grub-mkimage") && Files.exists("/usr/lib/grub/x86_64-efi/kernel.img"),
            "needs grub-common and grub-efi-amd64-bin"), arguments: ["ext2", "btrfs", "xfs", "f2fs", "jfs"])
    func theImageCanBeMade(driver: String) throws {
        let write = try #require(
            GrubEFIWrite(
                folder: "debian", modulesFolder: nil, drivers: ["lvm", driver], uuid: Fixture.rootUUID,
                path: "/@/boot/grub"))
        guard case .writeFiles(let files) = write.verb, case .built(let image) = files.files.last?.content else {
            Issue.record("\(write.verb)")
            return
        }
        let scratch = try ScratchFolder()
        let result = scratch.path.appending("image")
        let output = try ChildProcess.run(image.command(inputs: GrubEFIWrite.ownFolder, result: result.string))
        try #require(output.succeeded, "\(output.lastWords)")
        let bytes = try Files.read(result)
        #expect(bytes.starts(with: Array("MZ".utf8)))
        #expect(bytes.contains(Array("/EFI/debian".utf8)))
    }
}
