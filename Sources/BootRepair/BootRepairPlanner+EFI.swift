// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess

extension BootRepairPlanner {
    /// Plans `\EFI\BOOT\BOOTX64.EFI`.
    mutating func planFallback(_ loader: PlannedLoader?) {
        guard let esp = survey.esp, esp.problem == nil else { return }
        switch esp.fallback {
        case .foreign(let owner) where owner == loader?.label:
            draft.alreadyRight.append(
                "the fallback loader \(ESPSurvey.fallbackPath) is \(owner), of another version")
        case .foreign(let owner):
            draft.warnings.append(
                "the fallback loader \(ESPSurvey.fallbackPath) belongs to \(owner): it is kept"
                    + (loader == nil ? "" : ". Firmware starts \(loader?.path ?? "") by an entry in its NVRAM only"))
        case .copy(let path):
            // A copy of a loader that a step replaces would be outdated.
            guard let loader, loader.isNew, path.lowercased().hasPrefix("\\efi\\\(loader.folder.lowercased())\\") else {
                draft.alreadyRight.append("the fallback loader \(ESPSurvey.fallbackPath) is a copy of \(path)")
                return
            }
            makeFallback(loader, replacing: true)
        case .none:
            if let loader { makeFallback(loader, replacing: false) }
        }
    }

    private mutating func makeFallback(_ loader: PlannedLoader, replacing: Bool) {
        if let obstacle = target.obstacleToESP {
            draft.fail(
                "there is no fallback loader \(ESPSurvey.fallbackPath), and it cannot be made: \(obstacle.reason)",
                obstacle, matters: target.matters(.uefi))
            return
        }
        draft.steps.append(.makeFallback(loader, replacing: replacing))
    }

    /// Plans the firmware's boot entry: only in the recovery environment, as that runs on the machine that will boot
    /// the disk.
    mutating func planNVRAM(_ loader: PlannedLoader?) {
        guard survey.firmware == .uefi, let loader, let esp = survey.esp, let volume = survey.volume(esp.partition)
        else {
            return
        }
        guard options.inRecoveryEnvironment, options.touchNVRAM else {
            draft.alreadyRight.append(
                "the firmware's boot entries are left alone"
                    + (options.inRecoveryEnvironment ? " (as requested)" : " (they are changed only from the medium)"))
            return
        }
        let isForeign = if case .foreign(let owner) = esp.fallback { owner != loader.label } else { false }
        guard survey.tableKind == .gpt else {
            draft.alreadyRight.append("the firmware's boot entries are left alone: the disk has no GPT")
            return
        }
        guard let nvram = survey.nvram, nvram.problem == nil else {
            let sentence = "no firmware boot entry was made: \(survey.nvram?.problem ?? "the entries cannot be read")"
            if isForeign {
                draft.pending.append(
                    "\(sentence), and the fallback loader is not this system's: add an entry in the firmware's setup")
            } else {
                draft.warnings.append("\(sentence). The machine starts by the fallback loader")
            }
            return
        }
        for entry in nvram.entries {
            guard entry.label == loader.label, entry.path?.lowercased() == loader.path.lowercased(),
                let guid = entry.partitionGUID, guid != volume.guid, !nvram.attachedPartitions.contains(guid)
            else { continue }
            draft.steps.append(.remove(entry, of: guid))
        }
        if let entry = nvram.entry(for: loader.path, on: volume.guid) {
            if nvram.bootOrder.contains(entry.number), entry.isActive {
                draft.alreadyRight.append(
                    "the firmware's boot entry \(entry.number) \"\(entry.label)\" starts \(loader.path)")
            } else {
                draft.steps.append(.putFirst(entry))
            }
        } else {
            draft.steps.append(.addEntry(for: loader, on: volume, isNeeded: isForeign))
        }
    }
}
