// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess

/// Makes a plan from a survey. Pure: equal surveys and options give equal plans. The rows of the table plan what their
/// loaders need; fstab, the fallback loader and the firmware's entries are planned here.
struct BootRepairPlanner {
    let target: BootTarget
    /// The plan so far.
    var draft = LoaderPlan()

    var survey: SystemBootSurvey { target.survey }
    var options: BootRepairOptions { target.options }
    private var system: InstalledSystem? { target.system }

    init(_ target: BootTarget) { self.target = target }

    mutating func plan() -> BootRepairPlan {
        if survey.hasTable {
            if let problem = survey.systemProblem { draft.warnings.append(problem) }
            planFstab()
            for loader in BootLoaders.table.rows {
                draft.append(permitted(loader.plan(for: target, after: draft.steps)))
            }
            planFallback(draft.start)
            planNVRAM(draft.start)
            checkKernels()
        } else {
            draft.alreadyRight.append("the disk has no partition table: there is no loader to repair")
        }
        return BootRepairPlan(
            disk: survey.disk, diskGUID: survey.diskGUID, diskSignature: survey.diskSignature, volumes: survey.volumes,
            firmware: survey.firmware, systemName: system?.name,
            configurationFolder: draft.configurationFolder ?? "/boot/grub", mounts: mounts(),
            steps: BootVerb.Stage.allCases.flatMap { stage in draft.steps.filter { $0.verb.stage == stage } },
            alreadyRight: draft.alreadyRight, warnings: draft.warnings, pendingReason: pendingText())
    }

    /// A loader's plan without the steps that break a rule, each with a warning.
    private func permitted(_ plan: LoaderPlan) -> LoaderPlan {
        var permitted = plan
        permitted.steps = []
        for step in plan.steps {
            if let reason = refusal(of: step.verb) {
                permitted.warnings.append("left out: \(step): \(reason)")
            } else {
                permitted.steps.append(step)
            }
        }
        return permitted
    }

    /// The rule of boot repair that this verb breaks, for any loader; `nil` if none.
    private func refusal(of verb: BootVerb) -> String? {
        switch verb {
        case .changeNVRAM:
            if !options.inRecoveryEnvironment { return "the firmware's boot entries are changed from the medium only" }
            return options.touchNVRAM ? nil : "the firmware's boot entries are left alone, as requested"
        case .copyFile(let copies):
            guard copies.place == .esp, let esp = survey.esp, case .foreign(let owner) = esp.fallback else {
                return nil
            }
            // FAT is case-insensitive.
            let replacesIt = copies.files.contains {
                $0.to.lowercased().split(separator: "/") == ["efi", "boot", "bootx64.efi"]
            }
            return replacesIt ? "the fallback loader \(ESPSurvey.fallbackPath) belongs to \(owner)" : nil
        case .runTool(_, let otherwise):
            guard let otherwise else { return nil }
            return refusal(of: otherwise)
        case .editFile, .writeSectors, .patchBytes: return nil
        }
    }

    private func pendingText() -> String? {
        guard !draft.pending.isEmpty else { return nil }
        let reasons = draft.pending.joined(separator: ". ")
        guard draft.mediumHelps, !options.inRecoveryEnvironment else { return reasons }
        return reasons + ". Start the machine from the Reforge medium and run `reforge boot-repair DISK` there"
    }

    /// The root, a separate /boot and the ESP, as needed by the steps.
    private func mounts() -> [BootRepairPlan.MountPoint] {
        var mounts: [BootRepairPlan.MountPoint] = []
        if draft.steps.contains(where: \.verb.needsSystem), let system {
            mounts.append(.init(partition: system.rootPartition, path: "/", subvolume: system.rootSubvolume))
            mounts += system.bootMounts
        }
        if draft.steps.contains(where: \.verb.needsESP), let esp = survey.esp {
            mounts.append(.init(partition: esp.partition, path: mounts.isEmpty ? "/" : target.espMountPoint))
        }
        return mounts
    }

    // MARK: the system's files

    private mutating func planFstab() {
        guard let system else { return }
        var changes: [FstabChange] = []
        for entry in system.fstab {
            switch entry.resolution {
            case .moved(let number):
                guard let uuid = survey.volume(number)?.uuid else { continue }
                changes.append(
                    FstabChange(line: entry.line, from: entry.device, to: "UUID=\(uuid)", mountPoint: entry.mountPoint))
            case .elsewhere where !entry.isOptional:
                draft.warnings.append(
                    "/etc/fstab: \(entry.mountPoint) is on \(entry.device), which is not on this disk: not changed. "
                        + "If that disk is missing, the system waits for it and starts in emergency mode")
            default: break
            }
        }
        if !changes.isEmpty {
            draft.steps.append(.fixFstab(changes))
        } else if system.fstab.contains(where: { $0.partition != nil }) {
            draft.alreadyRight.append("/etc/fstab names this disk's partitions by identifiers that a restore keeps")
        }
    }

    private mutating func checkKernels() {
        guard let system else { return }
        if system.kernels.isEmpty {
            draft.warnings.append("there is no kernel in /boot of \(system.name)")
        }
        for kernel in system.kernels where kernel.initramfs == nil {
            draft.warnings.append("\(kernel.name) has no initramfs: it may not find its disk on other hardware")
        }
        for place in draft.lostResume + system.lostResume.filter({ !draft.lostResume.contains($0) }) {
            draft.warnings.append(
                "\(system.name) resumes from hibernation on \(place), which is not on this disk by that name: it may wait for "
                    + "it at each start")
        }
        if system.initramfsIsForOneMachine {
            draft.warnings.append(
                "the initramfs of \(system.name) holds only the drivers of the machine that it was made on; on other "
                    + "hardware, start its rescue entry and rebuild the initramfs")
        }
    }
}
