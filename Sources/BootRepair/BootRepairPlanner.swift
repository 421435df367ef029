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
            judgeSystem()
            planFstab()
            // Before the loaders' menus, which name it.
            planInitramfs()
            planLoaderKernels()
            for loader in BootLoaders.table.rows {
                draft.append(permitted(loader.plan(for: target, after: draft.steps)))
            }
            planESPMount(draft.start)
            planFallback(draft.start)
            planNVRAM(draft.start)
            judgeFirmware()
            judgeMachine()
            judgeSealedVolumes()
            judgeKernels()
        } else {
            draft.find(
                .tableMissing, "the disk has no partition table",
                unfixed: "there is no loader to repair")
        }
        var plan = BootRepairPlan(
            disk: survey.disk, diskGUID: survey.diskGUID, diskSignature: survey.diskSignature, volumes: survey.volumes,
            firmware: survey.firmware, systemName: system?.name,
            configurationFolder: draft.configurationFolder ?? "/boot/grub", mounts: mounts(),
            steps: BootVerb.Stage.allCases.flatMap { stage in draft.steps.filter { $0.verb.stage == stage } },
            alreadyRight: draft.alreadyRight, findings: FindingCode.inOrder(draft.findings) { $0.stage },
            pendingReason: pendingText())
        plan.kernelCommandLine = target.kernelCommandLine
        return plan
    }

    /// A loader's plan without the steps that break a rule; the findings that they would repair say so.
    private func permitted(_ plan: LoaderPlan) -> LoaderPlan {
        var permitted = plan
        for step in plan.steps {
            if let reason = refusal(of: step.verb) { permitted.leaveOut(step, because: reason) }
        }
        return permitted
    }

    /// The rule of boot repair that this verb breaks, for any loader; `nil` if none.
    private func refusal(of verb: BootVerb) -> String? {
        switch verb {
        case .changeNVRAM:
            if !options.inRecoveryEnvironment { return "the firmware's boot entries are changed from the medium only" }
            return options.touchNVRAM ? nil : "the firmware's boot entries are left alone, as requested"
        case .copyFile(let copies): return copies.place == .esp ? refusal(ofFiles: copies.files.map(\.to)) : nil
        case .writeFiles(let writes): return writes.place == .esp ? refusal(ofFiles: writes.files.map(\.path)) : nil
        case .runTool(_, let otherwise):
            guard let otherwise else { return nil }
            return refusal(of: otherwise)
        case .editFile, .removeFile, .addLines, .writeSectors, .rebuildInitramfs, .patchBytes: return nil
        }
    }

    /// The rule that new files on the EFI system partition break.
    private func refusal(ofFiles paths: [String]) -> String? {
        guard let esp = survey.esp, case .foreign(let owner) = esp.fallback else { return nil }
        // FAT is case-insensitive.
        let replacesIt = paths.contains { $0.lowercased().split(separator: "/") == ["efi", "boot", "bootx64.efi"] }
        return replacesIt ? "the fallback loader \(ESPSurvey.fallbackPath) belongs to \(owner)" : nil
    }

    private func pendingText() -> String? {
        let pending = draft.findings.compactMap(\.pending)
        guard !pending.isEmpty else { return nil }
        let reasons = pending.joined(separator: ". ")
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
        // Programs that write to the one write to the other, too.
        let programsNeedIt = draft.steps.contains { $0.verb.needsPrograms && $0.verb.needsESP }
        if programsNeedIt || draft.steps.contains(where: { $0.verb.needsExtendedBoot }),
            let boot = survey.volumes.first(where: \.isExtendedBoot),
            !mounts.contains(where: { $0.partition == boot.number })
        {
            let path = system?.mountPoint(ofPartition: boot.number) ?? "/boot"
            mounts.append(.init(partition: boot.number, path: mounts.isEmpty ? "/" : path))
        }
        return mounts
    }
}
