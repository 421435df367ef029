// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess

extension BootRepairPlanner {
    /// Plans `\EFI\BOOT\BOOTX64.EFI`.
    mutating func planFallback(_ loader: PlannedLoader?) {
        guard let esp = survey.esp else { return }
        if let problem = esp.problem {
            draft.fail(
                .espUnreadable, "the EFI system partition could not be read",
                at: Finding.Evidence(partition: esp.partition), BootObstacle(problem), matters: target.isAtHand(.uefi))
            return
        }
        switch esp.fallback {
        case .foreign(let owner) where owner == loader?.label:
            draft.alreadyRight.append(
                "the fallback loader \(ESPSurvey.fallbackPath) is \(owner), of another version")
        case .foreign(let owner):
            draft.find(
                .fallbackForeign, "the fallback loader \(ESPSurvey.fallbackPath) belongs to \(owner)",
                at: fallbackEvidence,
                unfixed: "it is kept"
                    + (loader.map { ". Firmware starts \($0.path) by an entry in its NVRAM only" } ?? ""))
        case .copy(let path):
            // A copy of a loader that a step replaces would be outdated.
            guard let loader, loader.isNew, path.lowercased().hasPrefix("\\efi\\\(loader.folder.lowercased())\\") else {
                draft.alreadyRight.append("the fallback loader \(ESPSurvey.fallbackPath) is a copy of \(path)")
                return
            }
            guard let obstacle = target.obstacleToESP else {
                draft.steps.append(.makeFallback(loader, replacing: true))
                return
            }
            draft.fail(
                .fallbackMissing, "the fallback loader \(ESPSurvey.fallbackPath) is a copy of an older \(path)",
                at: fallbackEvidence, obstacle, matters: target.matters(.uefi))
        case .none:
            guard let loader else { return }
            let sentence = "there is no fallback loader \(ESPSurvey.fallbackPath)"
            guard loader.mayBeFallback else {
                draft.find(
                    .fallbackMissing, sentence, at: fallbackEvidence,
                    unfixed:
                        "\(loader.path) is too large to be copied: firmware starts it by an entry in its NVRAM only")
                return
            }
            if let obstacle = target.obstacleToESP {
                draft.fail(
                    .fallbackMissing, sentence, at: fallbackEvidence, obstacle, matters: target.matters(.uefi))
            } else {
                draft.find(
                    .fallbackMissing, sentence, at: fallbackEvidence,
                    fixedBy: [.makeFallback(loader, replacing: false)])
            }
        }
    }

    private var fallbackEvidence: Finding.Evidence {
        Finding.Evidence(partition: survey.esp?.partition, file: ESPSurvey.fallbackPath)
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
            let sentence =
                "the firmware's boot entries cannot be read or changed"
                + (survey.nvram?.problem.map { " (\($0))" } ?? "")
            if isForeign {
                draft.fail(
                    .entriesUnreadable, "\(sentence), and the fallback loader is not this system's",
                    BootObstacle("add an entry in the firmware's setup"), matters: true)
            } else {
                draft.find(
                    .entriesUnreadable, sentence, severity: .note,
                    unfixed: "the machine starts by the fallback loader")
            }
            return
        }
        for entry in nvram.entries {
            guard entry.label == loader.label, entry.path?.lowercased() == loader.path.lowercased(),
                let guid = entry.partitionGUID, guid != volume.guid, !nvram.attachedPartitions.contains(guid)
            else { continue }
            draft.find(
                .entryStale,
                "the firmware's boot entry \(entry.number) \"\(entry.label)\" points to a partition that is on no "
                    + "disk here", fixedBy: [.remove(entry, of: guid)])
        }
        if let entry = nvram.entry(for: loader.path, on: volume.guid) {
            if nvram.bootOrder.contains(entry.number), entry.isActive {
                draft.alreadyRight.append(
                    "the firmware's boot entry \(entry.number) \"\(entry.label)\" starts \(loader.path)")
            } else {
                draft.find(
                    .entryNotFirst,
                    "the firmware's boot entry \(entry.number) \"\(entry.label)\" is inactive or not in the boot "
                        + "order", fixedBy: [.putFirst(entry)])
            }
        } else {
            draft.find(
                .entryMissing, "the firmware has no boot entry for \(loader.path)",
                severity: isForeign ? .stops : nil,
                fixedBy: [.addEntry(for: loader, on: volume, isNeeded: isForeign)])
        }
    }
}
