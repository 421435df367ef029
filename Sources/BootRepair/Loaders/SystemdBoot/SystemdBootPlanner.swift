// SPDX-License-Identifier: GPL-3.0-or-later
import SystemAccess

/// Plans systemd-boot: its loader, the entries of the surveyed system, and its random seed.
struct SystemdBootPlanner {
    let target: BootTarget
    var plan = LoaderPlan()

    private let loader = SystemdBoot()
    private var finding: SystemdBootFinding { target.survey.findings[loader] ?? SystemdBootFinding() }
    private var esp: ESPSurvey? { target.survey.esp }

    init(_ target: BootTarget) { self.target = target }

    mutating func planLoader() {
        guard target.survey.findings[loader] != nil else { return }
        if target.usesSystemdBoot {
            plan.firmware = [.uefi]
            planProgram()
        }
        planEntries()
        planSeed()
    }

    // MARK: the loader

    private mutating func planProgram() {
        guard let esp, esp.problem == nil else { return }
        if let present = finding.loader {
            plan.alreadyRight.append("UEFI: \(present.path) exists")
            plan.start = start(present.folder, present.name, isNew: false)
            return
        }
        // Firmware without an entry starts it all the same.
        if finding.isFallback {
            plan.alreadyRight.append("UEFI: the fallback loader \(ESPSurvey.fallbackPath) is systemd-boot")
            return
        }
        let sentence = "UEFI: the EFI system partition has entries of systemd-boot and no systemd-boot"
        let evidence = Finding.Evidence(partition: esp.partition, file: "\\EFI\\systemd\\\(SystemdBoot.fileName)")
        guard let packaged = finding.packaged else {
            plan.fail(
                .systemdBootMissing, sentence, at: evidence,
                BootObstacle("the installed system has no \(SystemdBoot.fileName)"), matters: target.matters(.uefi))
            return
        }
        if let obstacle = target.obstacleToESP {
            plan.fail(.systemdBootMissing, sentence, at: evidence, obstacle, matters: target.matters(.uefi))
            return
        }
        plan.find(
            .systemdBootMissing, sentence, severity: target.matters(.uefi) ? nil : .note, at: evidence,
            fixedBy: [installation(of: packaged)])
        plan.start = start("systemd", SystemdBoot.fileName, isNew: true)
    }

    /// bootctl(1) overwrites the fallback loader, whatever it is: it runs only where there is none. A copy of the
    /// packaged file does as well.
    private func installation(of packaged: String) -> BootRepairStep {
        let copy = BootVerb.copyFile(
            FileCopies(
                "systemd-boot", in: .esp,
                [.init(from: TreePath(.system, packaged), to: "EFI/systemd/\(SystemdBoot.fileName)")],
                done: "copied \(packaged) to \\EFI\\systemd\\\(SystemdBoot.fileName)"))
        let description = "copy the installed system's \(packaged) to the EFI system partition"
        // A signed loader is chosen by bootctl, too, but only by newer ones.
        guard finding.hasBootctl, esp?.fallback == ESPSurvey.Fallback.none, target.obstacleToPrograms == nil,
            !packaged.hasSuffix(".signed")
        else { return BootRepairStep(description, copy, by: loader.name) }
        let command = ["bootctl", "install", "--no-variables", "--esp-path=\(target.espMountPoint)"]
        return BootRepairStep(
            "run the installed system's `\(command.joined(separator: " "))`; if that fails: \(description)",
            .runTool(
                ToolRun(command, needsESP: true, success: .needed(consequence: "systemd-boot is not installed")),
                otherwise: copy), by: loader.name)
    }

    private func start(_ folder: String, _ name: String, isNew: Bool) -> PlannedLoader {
        PlannedLoader(folder: folder, name: name, isNew: isNew, label: SystemdBoot.label)
    }

    // MARK: the entries

    private mutating func planEntries() {
        guard let system = target.system else { return }
        let own = finding.own
        let judge = DeviceJudge(
            volumes: target.survey.volumes, rootPartition: system.rootPartition, fstab: system.fstab,
            capturedDiskName: target.options.capturedDiskName,
            capturedPartUUIDs: target.options.capturedPartUUIDs, words: own.flatMap(\.words))
        let whole = own.filter { $0.missing.isEmpty }
        for entry in own {
            plan.judgeReferences(
                entry.words, in: entry.file, judge, hasInitramfs: !entry.initramfs.isEmpty || entry.program != nil,
                isEditable: entry.isEditable, obstacle: obstacle(to: entry.file.place), matters: true,
                by: loader.name)
            judgeFiles(of: entry, isOnlyOne: whole.isEmpty)
            judgeRoot(of: entry, system)
        }
        if own.isEmpty, target.usesSystemdBoot, target.survey.findings[UnifiedKernels()]?.own.isEmpty != false {
            missEntries(of: system)
        } else if !whole.isEmpty, plan.findings.isEmpty {
            plan.alreadyRight.append(
                "the entries of the boot menu (\(whole.map(\.name).joined(separator: ", "))) find this system")
        }
    }

    /// The kernel and initramfs that an entry names.
    private mutating func judgeFiles(of entry: LoaderEntry, isOnlyOne: Bool) {
        guard !entry.missing.isEmpty else { return }
        let severity: Finding.Severity = isOnlyOne ? .stops : .mayStop
        let sentence =
            "the boot entry \(entry.name) names files that do not exist (\(entry.missing.joined(separator: ", ")))"
        let evidence = Finding.Evidence(partition: entry.partition, file: entry.file.path)
        let kernels = OwnKernels(versions: Set(finding.kernelFiles.keys), kernelFiles: finding.kernelFiles)
        let version = kernels.version(of: entry)
        guard finding.hasKernelInstall, let version, let file = finding.kernelFiles[version] else {
            plan.find(
                .entryFileMissing, sentence, severity: severity, at: evidence,
                unfixed: "the installed system cannot write them again: remove the entry, or install its kernel again")
            return
        }
        if let obstacle = target.obstacleToKernelInstall {
            plan.fail(.entryFileMissing, sentence, at: evidence, obstacle, matters: isOnlyOne)
        } else {
            plan.find(
                .entryFileMissing, sentence, severity: severity, at: evidence,
                fixedBy: [.installKernel(version, file: file, by: loader.name)])
        }
    }

    /// Without `root=`, systemd finds the root by its type, on the disk of the EFI system partition.
    private mutating func judgeRoot(of entry: LoaderEntry, _ system: InstalledSystem) {
        // A variable of GRUB may hold it.
        guard !entry.namesRoot, entry.program == nil, entry.file.place != .system,
            let root = target.survey.volume(system.rootPartition), !target.findsByType(root)
        else { return }
        let sentence =
            "the boot entry \(entry.name) names no root, and \(root.place) is not of the type by which systemd finds one"
        let evidence = Finding.Evidence(partition: entry.partition, file: entry.file.path)
        // A named root is not opened: systemd opens only one that it finds by its type.
        let subvolume = system.rootSubvolume ?? ""
        guard let line = entry.optionsLine, entry.isEditable, root.isPartition, let uuid = root.uuid,
            !subvolume.contains(where: \.isWhitespace)
        else {
            plan.find(.entryRootMissing, sentence, at: evidence, unfixed: "add `root=` to its options")
            return
        }
        if let obstacle = obstacle(to: entry.file.place) {
            plan.fail(.entryRootMissing, sentence, at: evidence, obstacle, matters: true)
            return
        }
        let flags = subvolume.isEmpty ? "" : " rootflags=subvol=\(subvolume)"
        let change = WordChange(line: line, word: 0, from: "options", to: "options root=UUID=\(uuid)\(flags)")
        plan.find(
            .entryRootMissing, sentence, at: evidence,
            fixedBy: [.fixReferences(in: entry.file, [change], by: loader.name)])
    }

    private mutating func missEntries(of system: InstalledSystem) {
        let sentence = "systemd-boot has no entry for \(system.name)"
        let evidence = Finding.Evidence(partition: esp?.partition, file: "/loader/entries")
        guard finding.hasKernelInstall, let newest = finding.kernelFiles.max(by: { $0.key < $1.key }) else {
            plan.find(
                .entriesMissing, sentence, severity: finding.entries.isEmpty ? nil : .mayStop, at: evidence,
                unfixed: "the installed system cannot write one (kernel-install, a kernel)")
            return
        }
        // An entry may be this system's and not look like it: an additional one does no harm, but is not needed.
        guard finding.entries.isEmpty else {
            plan.find(
                .entriesMissing, sentence, severity: .mayStop, at: evidence,
                unfixed:
                    "those that exist may be its: if they are not, run `kernel-install add \(newest.key) \(newest.value)` in it"
            )
            return
        }
        if let obstacle = target.obstacleToKernelInstall {
            plan.fail(.entriesMissing, sentence, at: evidence, obstacle, matters: target.matters(.uefi))
        } else {
            plan.find(
                .entriesMissing, sentence, at: evidence,
                fixedBy: [.installKernel(newest.key, file: newest.value, by: loader.name)])
        }
    }

    private func obstacle(to place: TreePlace) -> BootObstacle? {
        guard place == .system else { return target.obstacleToESP }
        guard target.survey.access != .none else {
            return BootObstacle(target.survey.accessProblem ?? "its partitions cannot be mounted", onlyHere: true)
        }
        return nil
    }

    // MARK: the seed

    /// A restored seed is that of another start, or of another machine.
    private mutating func planSeed() {
        guard finding.hasSeed, target.options.renewsSeeds, target.obstacleToESP == nil else { return }
        let removal = FileRemoval(
            TreePath(.esp, "loader/random-seed"), done: "removed systemd-boot's restored random seed")
        plan.find(
            .seedRestored, "the EFI system partition has a random seed that was used before the restore",
            at: Finding.Evidence(partition: esp?.partition, file: "/loader/random-seed"),
            fixedBy: [
                BootRepairStep(
                    "remove systemd-boot's random seed; the system makes another", .removeFile(removal),
                    by: loader.name)
            ])
    }
}

extension BootTarget {
    /// Whether systemd-boot starts the disk by UEFI: it is there and GRUB is not, or it is the fallback loader, too; or
    /// neither is there, and the entries are systemd-boot's.
    var usesSystemdBoot: Bool {
        guard let finding = survey.findings[SystemdBoot()], let esp = survey.esp else { return false }
        let hasGrub = esp.loader(forDistribution: system?.identifier) != nil
        if finding.loader != nil || finding.isFallback { return !hasGrub || finding.isFallback }
        return !hasGrub && finding.entries.contains { $0.file.place != .system }
    }

    /// Whether systemd finds a root by its partition's type, and opens it if it is encrypted
    /// (systemd-gpt-auto-generator(8)).
    func findsByType(_ root: BootVolume) -> Bool {
        guard survey.volume(root.partitionNumber)?.isDiscoverableRoot == true, root.logicalVolume == nil else {
            return false
        }
        let containers = root.inside?.containers ?? []
        guard containers.count == 1, case .luks? = containers.first else { return containers.isEmpty }
        return true
    }

    /// Whether the disk starts by UEFI without GRUB.
    var startsWithoutGrub: Bool { usesSystemdBoot || startsUnifiedKernel }

    /// Whether the system has kernels outside of /boot that a loader finds.
    var hasKernelsForLoader: Bool {
        survey.findings[SystemdBoot()]?.own.contains { $0.missing.isEmpty } == true
            || survey.findings[UnifiedKernels()].map { !$0.own.isEmpty || $0.fallback?.isOwn == true } == true
    }
}

extension SystemdBoot {
    var codes: [FindingCode] {
        [.systemdBootMissing, .entriesMissing, .entryFileMissing, .entryRootMissing, .seedRestored]
            + FindingCode.ofReferences
    }
}

extension FindingCode {
    static let systemdBootMissing = FindingCode(
        "systemd-boot-missing", .loader, .stops,
        "The EFI system partition has entries of systemd-boot and no systemd-boot",
        fix: "Boot repair runs the system's `bootctl install`, or copies its file")
    static let entriesMissing = FindingCode(
        "entries-missing", .configuration, .stops, "systemd-boot has no entry for the installed system",
        fix: "Boot repair runs the system's `kernel-install`")
    static let entryFileMissing = FindingCode(
        "entry-file-missing", .kernel, .stops,
        "A boot entry names a kernel or an initramfs that does not exist; where another entry is whole, it may stop",
        fix: "Boot repair runs the system's `kernel-install`")
    static let entryRootMissing = FindingCode(
        "entry-root-missing", .configuration, .stops,
        "A boot entry names no root, and the root's partition is not of the type by which systemd finds it",
        fix: "Boot repair adds `root=UUID=` to the entry")
    static let seedRestored = FindingCode(
        "seed-restored", .loader, .note, "systemd-boot's random seed was restored: no two starts may use one seed",
        fix: "Boot repair removes it behind a restore; the system makes another")
}
