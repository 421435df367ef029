// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess

/// Plans the chain from block 0 to core.img.
struct GrubBIOSPlanner {
    let target: BootTarget
    var plan = LoaderPlan()

    private var survey: SystemBootSurvey { target.survey }
    private var bios: GrubBIOSFinding { survey.findings[GrubBIOS()] ?? GrubBIOSFinding(chain: .absent) }
    private var grub: GrubInstallation? { target.grub }

    init(_ target: BootTarget) { self.target = target }

    mutating func planChain() {
        let isAtHand = target.isAtHand(.bios)
        switch bios.chain {
        case .foreign:
            // Whose it is, and whether it works, is not known here.
            plan.firmware = [.bios]
            if isAtHand, !target.usesExtlinux {
                plan.find(
                    .bootCodeForeign, "the boot code in block 0 is not GRUB's", at: .disk(0),
                    unfixed: "it is not changed")
            }
            return
        case .absent: return
        case .right, .misdirected, .noBootCode, .noCoreImage: plan.firmware = [.bios]
        }
        if bios.bootCode != .grub, target.usesExtlinux { return }
        // A disk with only a partition for core.img was never meant to start by BIOS.
        if !isAtHand, bios.chain == .noCoreImage, bios.bootCode == .none { return }
        guard survey.sectorSize == 512 else {
            if isAtHand {
                plan.fail(
                    .grubSectorSize,
                    "GRUB does not start from disks with sectors of \(survey.sectorSize) bytes by BIOS",
                    BootObstacle("switch the machine's firmware to UEFI"), matters: true)
            }
            return
        }
        let isRight = bios.chain == .right
        let place = "BIOS: boot code, core.img at sector \(bios.coreSector ?? 0) and its block list match"
        if isRight, bios.isInstalledCore == true || !isAtHand {
            plan.alreadyRight.append(place)
            return
        }
        let obstacle = target.obstacle(toInstallingGrub: "i386-pc")
        if obstacle == nil, let command = grub?.install, let disk = survey.disk.kernelName {
            if isRight { plan.alreadyRight.append(place) }
            repair(
                by: .runGrubInstall(
                    platform: "i386-pc", command: [command, "--target=i386-pc", "/dev/\(disk)"], again: isRight,
                    otherwise: isRight ? nil : ownWrite(), by: GrubBIOS().name))
            return
        }
        if isRight {
            plan.alreadyRight.append("\(place) (grub-install is not run: \(obstacle?.reason ?? "the disk is a file"))")
        } else if let write = ownWrite() {
            repair(by: .writeBIOSBoot(write, by: GrubBIOS().name))
            if case .made(modulesFolder: nil, _, _) = write.core {
                plan.find(
                    .grubFromMedium, "\(target.system?.name ?? "the system") has no GRUB for BIOS of its own",
                    unfixed: "install its package (Debian: grub-pc) in the started system, so that updates reach it")
            }
        } else {
            let obstacle = obstacle ?? BootObstacle("the disk is a file", onlyHere: true)
            plan.fail(
                code, problem, at: evidence,
                BootObstacle(
                    "the installed system's tools cannot repair it: \(obstacle.reason)", onlyHere: obstacle.onlyHere),
                matters: target.matters(.bios))
        }
    }

    /// Plans the step that repairs what was found. One for a valid chain only makes it match the system's files.
    private mutating func repair(by step: BootRepairStep) {
        guard bios.chain != .right else {
            plan.steps.append(step)
            return
        }
        plan.find(
            code, problem, severity: target.matters(.bios) ? nil : .note, at: evidence, fixedBy: [step])
    }

    private var code: FindingCode {
        switch bios.chain {
        case .misdirected: .grubCoreMisdirected
        case .noBootCode: .grubBootCodeMissing
        case .right, .noCoreImage, .foreign, .absent: .grubCoreMissing
        }
    }
    private var problem: String { "BIOS: \(bios.problem ?? "the boot chain is broken")" }
    /// The byte offset of core.img; of block 0 where it is unknown.
    private var evidence: Finding.Evidence { .disk((bios.coreSector ?? 0).multipliedFullWidth(by: 512).low) }

    /// The repair of the chain by Reforge's built-in fallback; `nil` if it has none.
    private func ownWrite() -> GrubBIOSWrite? {
        let partition = bios.biosBootPartition.flatMap(survey.volume)
        let bootImage: GrubBIOSWrite.BootImage
        if bios.bootCode == .grub {
            bootImage = .kept
        } else if let path = grub?.bootImage {
            bootImage = .file(path: path)
        } else if bios.ownTools.contains("boot.img") {
            bootImage = .medium
        } else {
            return nil
        }
        if bios.chain != .noCoreImage, let sector = bios.coreSector, let count = bios.coreSectorCount {
            let end =
                survey.volumes.first { $0.range.contains(sector * 512) }?.range.upperBound
                ?? survey.firstPartitionOffset.flatMap { $0 > sector * 512 ? $0 : nil } ?? survey.byteCount
            return GrubBIOSWrite(
                core: .onDisk(sectorCount: count), coreSector: sector, endSector: end / 512, bootImage: bootImage,
                partition: partition?.number, blockCount: bios.coreBlockCount)
        }
        // grub-install writes core.img directly after an MBR.
        let room = partition.map { $0.range.lowerBound / 512..<$0.range.upperBound / 512 } ?? coreGap
        guard !room.isEmpty, let core = newCore() else { return nil }
        return GrubBIOSWrite(
            core: core, coreSector: room.lowerBound, endSector: room.upperBound, bootImage: bootImage,
            partition: partition?.number)
    }

    /// The source of a new core.img, for a system with a grub.cfg that it can start.
    private func newCore() -> GrubBIOSWrite.Core? {
        guard let system = target.system, let grub, system.missingBoot == nil else { return nil }
        if grub.hasCoreImage { return .file(path: "\(grub.folder)/i386-pc/core.img") }
        guard bios.ownTools.contains("grub-mkimage"), grub.configurationProblems != nil,
            // Not in LUKS or an array: the prefix would name what the image does not open.
            let boot = survey.volume(system.bootPartition), boot.inside == nil,
            let driver = boot.traits.grubModule
        else { return nil }
        let table = survey.tableKind == .mbr ? "msdos" : "gpt"
        let prefix: String
        if let volume = boot.logicalVolume {
            // GRUB's name of a volume is device-mapper's (grub 2.06, grub-core/disk/lvm.c).
            guard let name = boot.mapperPaths.first?.split(separator: "/").last, volume.name.contains("/") else {
                return nil
            }
            prefix = "(lvm/\(name))\(grub.path)"
        } else {
            prefix = "(,\(table)\(boot.number))\(grub.path)"
        }
        let modules = ["biosdisk", "part_\(table)"] + (boot.logicalVolume == nil ? [] : ["lvm"]) + [driver]
        if grub.platforms.contains("i386-pc") {
            return .made(modulesFolder: "/usr/lib/grub/i386-pc", prefix: prefix, modules: modules)
        }
        guard bios.ownTools.contains("i386-pc"), !grub.usesLoaderEntries else { return nil }
        // Without modules of one version on the disk, core.img must contain all modules that a grub.cfg uses.
        return .made(
            modulesFolder: nil, prefix: prefix,
            modules: modules + [
                "normal", "configfile", "linux", "search", "search_fs_uuid", "search_label", "test", "echo", "ls",
                "gzio", "loadenv", "all_video", "serial", "terminal", "minicmd", "reboot", "halt",
            ])
    }

    /// The space for core.img outside of partitions, in sectors of 512 bytes: from the MBR to the first partition.
    /// Empty on a GPT, whose entries are there.
    private var coreGap: Range<UInt64> {
        guard survey.tableKind == .mbr, let first = survey.firstPartitionOffset, first >= 1024 else { return 1..<1 }
        return 1..<first / 512
    }
}
