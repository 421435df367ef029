// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Testing

@testable import BootRepair

/// Plans over made-up surveys: nothing is mounted, nothing runs.
@Suite struct PlanTests {
    func names(_ plan: BootRepairPlan) -> [String] {
        plan.steps.map { step in
            switch step.record {
            case let record as CommonStep:
                switch record {
                case .fixFstab: "fstab"
                case .makeFallback(_, _, let replacing): replacing ? "renew fallback" : "fallback"
                case .addNVRAMEntry: "add entry"
                case .orderNVRAMEntry: "order entry"
                case .removeNVRAMEntry(let number, _, _): "remove \(number)"
                }
            case let record as GrubStep:
                switch record {
                case .runGrubInstall(let platform, _, _, _): "grub-install \(platform)"
                case .updateGrub: "update-grub"
                case .writeBIOSBoot: "own BIOS"
                case .writeGrubEFI: "own UEFI"
                }
            default: "\(step)"
            }
        }
    }
    /// The JSON record of a step.
    func common(_ step: BootRepairStep?) -> CommonStep? { step?.record as? CommonStep }
    func grub(_ step: BootRepairStep?) -> GrubStep? { step?.record as? GrubStep }
    func ownWrite(_ step: BootRepairStep?) -> GrubBIOSWrite? {
        if case .writeBIOSBoot(let write) = grub(step) { write } else { nil }
    }

    // MARK: right as it is

    @Test(arguments: [Firmware.bios, .uefi])
    func nothingToDo(_ firmware: Firmware) {
        let plan = BootRepair.plan(Fixture.survey(firmware), options: Fixture.medium(firmware))
        #expect(plan.isEmpty)
        #expect(plan.mounts.isEmpty)
        #expect(plan.findings.isEmpty)
        #expect(plan.lines.contains("  nothing to do"))
    }

    @Test func noTable() {
        var survey = Fixture.survey(.bios)
        survey.tableKind = .none
        let plan = BootRepair.plan(survey, options: Fixture.medium(.bios))
        #expect(plan.isEmpty)
        #expect(plan.findings.map(\.code) == ["table-missing"])
    }

    // MARK: BIOS

    @Test func biosRunsTheSystemsOwnTools() {
        var survey = Fixture.survey(.bios)
        survey.bios.isInstalledCore = nil
        let plan = BootRepair.plan(survey, options: Fixture.medium(.bios))
        #expect(names(plan) == ["grub-install i386-pc", "update-grub"])
        #expect(
            grub(plan.steps.first)
                == .runGrubInstall(
                    platform: "i386-pc", command: ["grub-install", "--target=i386-pc", "/dev/nvme0n1"], again: true,
                    otherwise: nil))
        #expect(plan.mounts == [.init(partition: 3, path: "/")])
        #expect(plan.pendingReason == nil)
    }

    @Test func biosCoreMoved() {
        var survey = Fixture.survey(.bios)
        survey.bios.chain = .misdirected
        let own = GrubBIOSWrite(core: .onDisk(sectorCount: 100), coreSector: 2048, endSector: 4096, partition: 1)
        let tools = BootRepair.plan(survey, options: Fixture.medium(.bios))
        #expect(
            grub(tools.steps.first)
                == .runGrubInstall(
                    platform: "i386-pc", command: ["grub-install", "--target=i386-pc", "/dev/nvme0n1"], again: false,
                    otherwise: own))
        // Without tools: the built-in fallback, which needs no mount.
        survey.grub?.install = nil
        let plan = BootRepair.plan(survey, options: Fixture.medium(.bios))
        #expect(plan.steps.map { grub($0) } == [.writeBIOSBoot(own)])
        #expect(plan.mounts.isEmpty)
        // It needs no system either.
        survey.system = nil
        survey.systemFindings = [Finding(.systemUnread, "nothing could be mounted", fix: .none(""))]
        let bare = BootRepair.plan(survey, options: Fixture.medium(.bios))
        #expect(bare.steps.map { grub($0) } == [.writeBIOSBoot(own)])
    }

    @Test func biosBootCodeMissing() {
        var survey = Fixture.survey(.bios)
        survey.bios.chain = .noBootCode
        survey.bios.bootCode = .none
        survey.access = .loopDevices
        let plan = BootRepair.plan(survey, options: Fixture.workstation())
        guard let write = ownWrite(plan.steps.first) else {
            Issue.record("\(plan)")
            return
        }
        #expect(write.bootImage == .file(path: "/boot/grub/i386-pc/boot.img"))
        #expect(write.core == .onDisk(sectorCount: 100))
        #expect(plan.mounts == [.init(partition: 3, path: "/")])
        survey.system = nil
        let bare = BootRepair.plan(survey, options: Fixture.workstation())
        #expect(bare.steps.first?.description.contains("boot code to block 0") == true)
    }

    @Test func biosCoreMissing() {
        var survey = Fixture.survey(.bios)
        survey.bios.chain = .noCoreImage
        survey.bios.coreSector = nil
        survey.access = .loopDevices
        func core(_ survey: SystemBootSurvey) -> GrubBIOSWrite.Core? {
            BootRepair.plan(survey, options: Fixture.workstation()).steps.lazy.compactMap { ownWrite($0)?.core }.first
        }
        #expect(core(survey) == .file(path: "/boot/grub/i386-pc/core.img"))
        survey.grub?.hasCoreImage = false
        #expect(
            core(survey)
                == .made(
                    modulesFolder: "/usr/lib/grub/i386-pc", prefix: "(,gpt3)/boot/grub",
                    modules: ["biosdisk", "part_gpt", "ext2"]))
        survey.grub?.platforms = []
        guard case .made(nil, _, let modules) = core(survey) else {
            Issue.record("not from the medium")
            return
        }
        #expect(modules.contains("normal") && modules.contains("linux"))
        // Neither files nor tools: the plan says so, and names the next step.
        survey.bios.ownTools = []
        let plan = BootRepair.plan(survey, options: Fixture.workstation())
        #expect(plan.steps.isEmpty)
        #expect(plan.pendingReason?.contains("BIOS") == true)
    }

    @Test func separateBootPartition() {
        var survey = Fixture.survey(.bios)
        survey.volumes.append(
            Fixture.volume(
                5, 1200..<1300, PartitionType.linuxFilesystem, .ext4, "ext4", "5eed0005-0000-4000-8000-000000000005"))
        survey.system?.fstab.append(
            FstabEntry(line: 9, device: "x", mountPoint: "/boot", type: "ext4", resolution: .here(partition: 5)))
        survey.grub?.path = "/grub"
        survey.bios.chain = .noCoreImage
        survey.grub?.hasCoreImage = false
        survey.access = .loopDevices
        let plan = BootRepair.plan(survey, options: Fixture.workstation())
        guard case .made(_, let prefix, _) = ownWrite(plan.steps.first)?.core else {
            Issue.record("\(plan)")
            return
        }
        #expect(prefix == "(,gpt5)/grub")
        #expect(plan.mounts == [.init(partition: 3, path: "/"), .init(partition: 5, path: "/boot")])
    }

    @Test func biosMachineAndADiskForUEFI() {
        var survey = Fixture.survey(.bios)
        survey.bios = GrubBIOSFinding(chain: .absent)
        #expect(
            BootRepair.plan(survey, options: Fixture.medium(.bios)).pendingReason?.contains("firmware to UEFI") == true)
        // On a workstation, the target machine of the disk is unknown.
        #expect(BootRepair.plan(survey, options: Fixture.workstation()).isEmpty)
    }

    @Test func foreignBootCodeAndLargeSectors() {
        var survey = Fixture.survey(.bios)
        survey.bios = GrubBIOSFinding(chain: .foreign, bootCode: .other)
        #expect(BootRepair.plan(survey, options: Fixture.medium(.bios)).findings.map(\.code) == ["boot-code-foreign"])
        survey = Fixture.survey(.bios)
        survey.sectorSize = 4096
        #expect(BootRepair.plan(survey, options: Fixture.medium(.bios)).pendingReason?.contains("4096") == true)
        survey.firmware = .uefi
        #expect(BootRepair.plan(survey, options: Fixture.medium(.uefi)).isEmpty)
    }

    @Test func theOtherFirmwareIsKeptBootable() {
        var survey = Fixture.survey(.uefi)
        survey.bios.chain = .misdirected
        survey.grub?.platforms = ["x86_64-efi"]
        #expect(names(BootRepair.plan(survey, options: Fixture.medium(.uefi))) == ["own BIOS"])
        survey.bios.chain = .right
        survey.bios.isInstalledCore = false
        #expect(BootRepair.plan(survey, options: Fixture.medium(.uefi)).isEmpty)
        // But nothing is planned for a firmware that the disk was never meant for.
        survey.bios.chain = .noCoreImage
        survey.bios.bootCode = .none
        #expect(BootRepair.plan(survey, options: Fixture.medium(.uefi)).isEmpty)
    }

    // MARK: UEFI

    @Test func uefiOnABlankMachine() {
        var survey = Fixture.survey(.uefi)
        survey.grubEFI?.loaders[0].isInstalled = false
        survey.esp?.fallback = .none
        survey.nvram?.entries = []
        survey.nvram?.bootOrder = []
        let plan = BootRepair.plan(survey, options: Fixture.medium(.uefi))
        #expect(names(plan) == ["grub-install x86_64-efi", "update-grub", "fallback", "add entry"])
        #expect(
            grub(plan.steps.first)
                == .runGrubInstall(
                    platform: "x86_64-efi",
                    command: [
                        "grub-install", "--target=x86_64-efi", "--efi-directory=/boot/efi", "--bootloader-id=debian",
                        "--no-nvram",
                    ], again: true, otherwise: nil))
        #expect(plan.mounts == [.init(partition: 3, path: "/"), .init(partition: 2, path: "/boot/efi")])
        #expect(
            common(plan.steps.last)
                == .addNVRAMEntry(
                    label: "debian", partition: 2, partitionGUID: Fixture.guid(2), path: "\\EFI\\debian\\grubx64.efi",
                    isNeeded: false))
    }

    @Test func noInstalledToolsForUEFI() {
        var survey = Fixture.survey(.uefi)
        survey.grub?.install = nil
        survey.grubEFI?.loaders[0].isInstalled = false
        survey.esp?.fallback = .none
        let plan = BootRepair.plan(survey, options: Fixture.medium(.uefi))
        #expect(names(plan) == ["fallback"])
        // Only the ESP is mounted.
        #expect(plan.mounts == [.init(partition: 2, path: "/")])
    }

    @Test func fallbackThatIsOursIsRenewedWithItsLoader() {
        var survey = Fixture.survey(.uefi)
        survey.grubEFI?.loaders[0].isInstalled = false
        #expect(
            names(BootRepair.plan(survey, options: Fixture.medium(.uefi)))
                == ["grub-install x86_64-efi", "update-grub", "renew fallback"])
    }

    @Test func foreignFallbackIsKeptAndNamed() {
        var survey = Fixture.survey(.uefi)
        survey.esp?.fallback = .foreign(owner: "Windows Boot Manager")
        let plan = BootRepair.plan(survey, options: Fixture.medium(.uefi))
        #expect(plan.steps.isEmpty)
        #expect(
            plan.findings.first { $0.code == "fallback-foreign" }?.sentence.contains("Windows Boot Manager") == true)
        // Then only the firmware's entry starts the disk.
        survey.nvram = NVRAMSurvey(problem: "EFI variables are not supported on this system.")
        #expect(BootRepair.plan(survey, options: Fixture.medium(.uefi)).pendingReason != nil)
        survey.esp?.fallback = .copy(of: Fixture.loader.path)
        let warned = BootRepair.plan(survey, options: Fixture.medium(.uefi))
        #expect(warned.pendingReason == nil && warned.findings.map(\.code) == ["firmware-entries-unreadable"])
    }

    @Test func firmwareEntries() {
        var survey = Fixture.survey(.uefi)
        let stale = NVRAMEntry(
            number: "0007", label: "debian", partitionGUID: Fixture.guid(9), path: Fixture.loader.path)
        let named = NVRAMEntry(
            number: "0008", label: "ubuntu", partitionGUID: Fixture.guid(9), path: Fixture.loader.path)
        survey.nvram?.entries += [stale, named]
        #expect(names(BootRepair.plan(survey, options: Fixture.medium(.uefi))) == ["remove 0007"])
        // Its partition is on an attached disk: the entry must not be removed.
        survey.nvram?.attachedPartitions.append(Fixture.guid(9))
        #expect(BootRepair.plan(survey, options: Fixture.medium(.uefi)).isEmpty)
        survey.nvram?.bootOrder = ["0000"]
        #expect(names(BootRepair.plan(survey, options: Fixture.medium(.uefi))) == ["order entry"])
        survey.nvram?.entries = []
        #expect(names(BootRepair.plan(survey, options: Fixture.medium(.uefi))) == ["add entry"])
        #expect(BootRepair.plan(survey, options: Fixture.medium(.uefi, touchNVRAM: false)).isEmpty)
        #expect(BootRepair.plan(survey, options: Fixture.workstation(.uefi)).isEmpty)
    }

    @Test func shimIsNotPutBeforeAnUnsignedGRUB() {
        var survey = Fixture.survey(.uefi)
        let shim = EFILoader(path: "\\EFI\\debian\\shimx64.efi", byteCount: 1)
        survey.esp?.loaders.append(shim)
        survey.grubEFI?.loaders.append(.init(path: shim.path, searchedUUIDs: [Fixture.rootUUID]))
        survey.grubEFI?.loaders[0].isInstalled = false
        survey.nvram?.entries[0].path = shim.path
        let plan = BootRepair.plan(survey, options: Fixture.medium(.uefi))
        #expect(plan.isEmpty)
        #expect(plan.alreadyRight.contains { $0.contains("unsigned") })
        survey.grub?.hasSignedShim = true
        survey.esp?.fallback = .none
        #expect(
            BootRepair.plan(survey, options: Fixture.medium(.uefi)).steps.contains {
                common($0) == .makeFallback(from: "\\EFI\\debian", loader: "shimx64.efi", replacing: false)
            })
    }

    @Test func loaderThatLooksForWhatIsNotThere() {
        var survey = Fixture.survey(.uefi)
        survey.grubEFI?.loaders[0].searchedUUIDs = ["11111111-2222-3333-4444-555555555555"]
        survey.grubEFI?.loaders[0].isInstalled = false
        #expect(
            names(BootRepair.plan(survey, options: Fixture.medium(.uefi))).first == "grub-install x86_64-efi")
        survey.grub?.platforms = ["i386-pc"]
        #expect(
            BootRepair.plan(survey, options: Fixture.medium(.uefi)).pendingReason?.contains("not on this disk") == true)
    }

    @Test func uefiMachineAndADiskForBIOS() {
        var survey = Fixture.survey(.uefi)
        survey.esp = nil
        #expect(BootRepair.plan(survey, options: Fixture.medium(.uefi)).pendingReason?.contains("CSM") == true)
        survey.esp = ESPSurvey(partition: 2, problem: "it is no FAT")
        #expect(BootRepair.plan(survey, options: Fixture.medium(.uefi)).pendingReason?.contains("no FAT") == true)
    }

    @Test func loadersOfDistributions() {
        let esp = ESPSurvey(
            partition: 1,
            loaders: [
                EFILoader(path: "\\EFI\\Microsoft\\Boot\\bootmgfw.efi", byteCount: 1),
                EFILoader(path: "\\EFI\\ubuntu\\grubx64.efi", byteCount: 1),
                EFILoader(path: "\\EFI\\UBUNTU\\shimx64.efi", byteCount: 1),
                EFILoader(path: "\\EFI\\debian\\grubx64.efi", byteCount: 1),
            ])
        #expect(esp.loader(forDistribution: "ubuntu")?.path == "\\EFI\\UBUNTU\\shimx64.efi")
        #expect(esp.loader(forDistribution: "linuxmint")?.folder == "UBUNTU")
        #expect(esp.loader(forDistribution: "debian")?.name == "grubx64.efi")
        #expect(esp.loader(forDistribution: "fedora") == nil)
        #expect(ESPSurvey(partition: 1, loaders: [esp.loaders[0]]).loader(forDistribution: nil) == nil)
        // openSUSE's names: its shim is kept, and nothing takes its place.
        var suse = Fixture.survey(.uefi)
        suse.system?.identifier = "opensuse-leap"
        suse.esp?.loaders = ["grub.efi", "MokManager.efi", "shim.efi"].map {
            EFILoader(path: "\\EFI\\opensuse\\\($0)", byteCount: 1)
        }
        #expect(suse.esp?.loader(forDistribution: "opensuse-leap")?.name == "shim.efi")
        let kept = BootRepair.plan(suse, options: Fixture.medium(.uefi))
        #expect(!kept.findings.contains { $0.code == "grub-loader-missing" }, "\(kept)")
        #expect(!kept.steps.contains { "\($0)".contains("grub-mkimage") }, "\(kept)")
    }

    // MARK: workstations

    @Test func workstationWithoutFAT() {
        var survey = Fixture.survey(.bios)
        survey.access = .loopDevices
        survey.accessProblem = "the disk is a file"
        survey.kernelMountsFAT = false
        survey.bios.isInstalledCore = nil
        survey.esp?.fallback = .none
        let plan = BootRepair.plan(survey, options: Fixture.workstation())
        #expect(plan.steps.isEmpty)
        #expect(plan.pendingReason?.contains("does not mount FAT") == true)
        #expect(plan.pendingReason?.contains("run `reforge boot-repair DISK` there") == true)
        // A valid boot chain needs no change, even if the tools cannot run here.
        #expect(plan.alreadyRight.contains { $0.contains("grub-install is not run: the disk is a file") })
        survey.esp?.fallback = .copy(of: Fixture.loader.path)
        #expect(BootRepair.plan(survey, options: Fixture.workstation()).isEmpty)
    }

    @Test func workstationNeverTouchesTheFirmware() {
        var survey = Fixture.survey(.uefi)
        survey.nvram = nil
        let plan = BootRepair.plan(survey, options: Fixture.workstation(.uefi))
        #expect(plan.isEmpty && plan.findings.isEmpty)
    }

    @Test func configurationThatCannotBeWrittenHere() {
        var survey = Fixture.survey(.bios)
        survey.grub?.configurationProblems = ["it starts no kernel"]
        #expect(names(BootRepair.plan(survey, options: Fixture.medium(.bios))) == ["update-grub"])
        survey.access = .loopDevices
        let plan = BootRepair.plan(survey, options: Fixture.workstation())
        #expect(plan.pendingReason?.contains("it starts no kernel") == true)
        #expect(plan.pendingReason?.contains("medium") == true)
    }

    @Test func programsForAnotherProcessor() {
        var survey = Fixture.survey(.bios)
        survey.system?.programsRunHere = false
        survey.bios.isInstalledCore = nil
        #expect(BootRepair.plan(survey, options: Fixture.medium(.bios)).isEmpty)
        survey.bios.chain = .misdirected
        #expect(names(BootRepair.plan(survey, options: Fixture.medium(.bios))) == ["own BIOS"])
    }

    // MARK: the system's files

    @Test func fstabOfMovedDevices() {
        var survey = Fixture.survey(.bios)
        survey.system = Fixture.system(
            "/dev/sda3 / ext4 defaults 0 1\n/dev/sda4 none swap sw 0 0\n/dev/sdb1 /data ext4 defaults 0 0\n")
        let plan = BootRepair.plan(survey, options: Fixture.medium(.bios))
        #expect(
            plan.steps.map { common($0) } == [
                .fixFstab(changes: [
                    FstabChange(line: 0, from: "/dev/sda3", to: "UUID=\(Fixture.rootUUID)", mountPoint: "/"),
                    FstabChange(line: 1, from: "/dev/sda4", to: "UUID=\(Fixture.swapUUID)", mountPoint: "none"),
                ])
            ])
        #expect(plan.findings.map(\.code) == ["fstab-elsewhere", "fstab-device-name"])
        #expect(plan.findings.first?.sentence.contains("/dev/sdb1") == true)
        #expect(plan.mounts == [.init(partition: 3, path: "/")])
    }

    @Test func kernels() {
        var survey = Fixture.survey(.bios)
        survey.system?.kernels = [
            .init(name: "vmlinuz-1", initramfs: nil),
            .init(
                name: "vmlinuz-2", initramfs: "initrd.img-2", version: "2", contents: InitramfsSurvey(isHostOnly: true)),
        ]
        let plan = BootRepair.plan(survey, options: Fixture.medium(.bios))
        #expect(plan.findings.map(\.code) == ["initramfs-missing", "initramfs-one-machine"])
        survey.system?.kernels = []
        survey.system?.lostResume = ["/dev/sda4"]
        let found = BootRepair.plan(survey, options: Fixture.medium(.bios)).findings.map(\.code)
        #expect(found == ["kernel-missing", "resume-lost"])
    }
}
