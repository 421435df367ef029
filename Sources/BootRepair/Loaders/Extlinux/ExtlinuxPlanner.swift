// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess

/// Plans the chain from block 0 to extlinux, and its configuration.
struct ExtlinuxPlanner {
    let target: BootTarget
    var plan = LoaderPlan()

    private let loader = Extlinux()

    init(_ target: BootTarget) { self.target = target }

    mutating func planChain() {
        guard let finding = target.survey.findings[loader], finding.isUsed else { return }
        plan.firmware = [.bios]
        let matters = target.matters(.bios)
        guard target.survey.sectorSize == 512 else {
            plan.fail(
                .extlinuxSectorSize,
                "extlinux does not start from disks with sectors of \(target.survey.sectorSize) bytes",
                BootObstacle("switch the machine's firmware to UEFI, with a loader for it"),
                matters: target.isAtHand(.bios))
            return
        }
        planLoader(finding, matters)
        planBlockZero(finding, matters)
        planConfiguration(finding)
        if plan.findings.isEmpty {
            plan.alreadyRight.append(
                "BIOS: boot code, the mark of partition \(finding.partition), and the blocks of "
                    + "\(finding.folder)/ldlinux.sys match")
        }
    }

    private mutating func planLoader(_ finding: ExtlinuxFinding, _ matters: Bool) {
        guard let problem = finding.loaderProblem else { return }
        let sentence = "extlinux: \(problem)"
        let evidence = Finding.Evidence(partition: finding.partition, file: "\(finding.folder)/ldlinux.sys")
        let obstacle = finding.hasProgram ? target.obstacleToPrograms : BootObstacle("it has no extlinux")
        if let obstacle {
            plan.fail(.extlinuxMoved, sentence, at: evidence, obstacle, matters: matters)
            return
        }
        let command = ["extlinux", "--install", finding.folder]
        plan.find(
            .extlinuxMoved, sentence, severity: matters ? nil : .note, at: evidence,
            fixedBy: [
                BootRepairStep(
                    "run the installed system's `\(command.joined(separator: " "))`",
                    .runTool(
                        ToolRun(command, success: .needed(consequence: "extlinux is not installed")), otherwise: nil),
                    by: loader.name)
            ])
    }

    /// Boot code and mark.
    private mutating func planBlockZero(_ finding: ExtlinuxFinding, _ matters: Bool) {
        let isGPT = target.survey.tableKind == .gpt
        let wanted: MasterBootCode = isGPT ? .gptAttribute : .activePartition
        if finding.bootCode == .other {
            plan.find(
                .extlinuxBootCode, "the boot code in block 0 is not SYSLINUX's", severity: .note, at: .disk(0),
                unfixed: "it is not changed")
        } else if finding.bootCode != wanted {
            let sentence =
                finding.bootCode == .none
                ? "block 0 holds no boot code" : "the boot code in block 0 is for the other kind of partition table"
            if let source = finding.systemBootCode.map({ SectorRun.Source.systemFile($0) })
                ?? finding.ownBootCode.map({ SectorRun.Source.ownFile($0) })
            {
                plan.find(
                    .extlinuxBootCode, sentence, severity: matters ? nil : .note, at: .disk(0),
                    fixedBy: [step("write SYSLINUX's boot code to block 0", [Self.bootCode(from: source)])])
            } else {
                plan.fail(
                    .extlinuxBootCode, sentence, at: .disk(0),
                    BootObstacle("there is no \(isGPT ? "gptmbr.bin" : "mbr.bin") in the system or here"),
                    matters: matters)
            }
        }
        guard finding.marked != [finding.partition] else { return }
        let mark = isGPT ? "the attribute \"legacy BIOS bootable\"" : "the active flag"
        let sentence =
            finding.marked.isEmpty
            ? "no partition has \(mark)" : "\(mark) is not on partition \(finding.partition) alone"
        if finding.marking.isEmpty {
            plan.fail(
                .extlinuxMark, sentence, at: Finding.Evidence(partition: finding.partition),
                BootObstacle("the partition table does not allow it"), matters: matters)
        } else {
            plan.find(
                .extlinuxMark, sentence, severity: matters ? nil : .note,
                at: Finding.Evidence(partition: finding.partition),
                fixedBy: [step("set \(mark) of partition \(finding.partition)", finding.marking)])
        }
    }

    private func step(_ description: String, _ runs: [SectorRun]) -> BootRepairStep {
        BootRepairStep(
            description,
            .writeSectors(
                SectorWrites(runs, done: "done: \(description)", failure: "block 0 or the table could not be written")),
            by: loader.name)
    }

    /// The code alone: signature and table are kept.
    private static func bootCode(from source: SectorRun.Source) -> SectorRun {
        let unsuitable = "the boot code is not SYSLINUX's"
        return SectorRun(
            sector: 0, endSector: 1, source: source,
            requirement: SectorRun.Requirement(
                byteCounts: 256...MasterBootCode.byteCount, texts: ["Missing O"], within: MasterBootCode.byteCount),
            kept: [MasterBootCode.byteCount..<512], patches: [], unsuitable: unsuitable, tooLong: unsuitable)
    }

    private mutating func planConfiguration(_ finding: ExtlinuxFinding) {
        guard let system = target.system else { return }
        let entries = finding.configurations.flatMap(\.entries)
        let judge = DeviceJudge(
            volumes: target.survey.volumes, rootPartition: system.rootPartition, fstab: system.fstab,
            capturedDiskName: target.options.capturedDiskName,
            capturedPartUUIDs: target.options.capturedPartUUIDs, words: entries.flatMap(\.words))
        let obstacle: BootObstacle? =
            target.survey.access == .none
            ? BootObstacle(target.survey.accessProblem ?? "its partitions cannot be mounted", onlyHere: true) : nil
        for configuration in finding.configurations {
            let own = configuration.entries.filter { isOwn($0, judge, system) }
            plan.judgeReferences(
                own.flatMap(\.words), in: TreePath(.system, configuration.path), judge,
                hasInitramfs: own.allSatisfy { !$0.initramfs.isEmpty || $0.kernel == nil },
                isEditable: configuration.isEditable, obstacle: obstacle, matters: true, by: loader.name)
            let hasWhole = entries.contains { $0.startsKernel && $0.missing.isEmpty }
            for entry in own where !entry.missing.isEmpty {
                plan.find(
                    .extlinuxFileMissing,
                    "the boot entry \(entry.label) names files that do not exist (\(entry.missing.joined(separator: ", ")))",
                    severity: hasWhole ? .mayStop : .stops, at: .file(configuration.path),
                    unfixed: "install the kernel in the system again")
            }
        }
        if !entries.contains(where: \.startsKernel) {
            plan.find(
                .extlinuxFileMissing, "extlinux has no entry that starts a kernel", at: .file(finding.folder),
                unfixed: "write one in the system")
        }
    }

    /// Whether an entry starts this system: its root is not another volume of this disk.
    private func isOwn(_ entry: ExtlinuxConfiguration.Entry, _ judge: DeviceJudge, _ system: InstalledSystem) -> Bool {
        for word in entry.words where word.use == .root {
            switch judge.verdict(of: word) {
            case .here(let number), .moved(let number): return number == system.rootPartition
            // A missing kernel and a missing root: another system's.
            case .lost: return entry.missing.isEmpty
            case .unknown: return true
            }
        }
        return true
    }
}

extension BootTarget {
    /// Whether extlinux starts the disk by BIOS.
    var usesExtlinux: Bool { survey.findings[Extlinux()]?.isUsed == true }
}

extension Extlinux {
    var codes: [FindingCode] {
        [.extlinuxMoved, .extlinuxBootCode, .extlinuxMark, .extlinuxSectorSize, .extlinuxFileMissing]
    }
}

extension FindingCode {
    static let extlinuxMoved = FindingCode(
        "extlinux-moved", .loader, .stops,
        "The partition's boot record does not load extlinux: its blocks moved, or there is no record",
        fix: "Boot repair runs the system's `extlinux --install`")
    static let extlinuxBootCode = FindingCode(
        "extlinux-boot-code", .bootCode, .stops,
        "Block 0 holds no boot code for extlinux, or that for the other kind of partition table",
        fix: "Boot repair writes SYSLINUX's mbr.bin or gptmbr.bin; other boot code is kept")
    static let extlinuxMark = FindingCode(
        "extlinux-mark", .bootCode, .stops,
        "The partition of extlinux is not the only one marked to be started (active flag; attribute of a GPT)",
        fix: "Boot repair marks it")
    static let extlinuxSectorSize = FindingCode(
        "extlinux-sector-size", .bootCode, .stops, "extlinux does not start from disks with sectors of 4096 bytes",
        fix: "Restore onto a disk with sectors of 512 bytes")
    static let extlinuxFileMissing = FindingCode(
        "extlinux-file-missing", .kernel, .stops,
        "An entry of extlinux names a kernel or an initramfs that does not exist; where another entry is whole, it may stop",
        fix: "Install the kernel in the system again")
}
