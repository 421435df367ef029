// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

extension BootRepairPlanner {
    /// Plans the loader on the ESP. Returns the one that firmware is to start; `nil` where there is none.
    mutating func planEFI() -> PlannedLoader? {
        let isAtHand = survey.firmware == .uefi
        guard let esp = survey.esp else {
            if isAtHand, options.inRecoveryEnvironment, system != nil {
                pending.append(
                    "this machine was started by UEFI, but the disk has no EFI system partition: switch the machine's "
                        + "firmware to legacy BIOS (CSM)")
            }
            return nil
        }
        if let problem = esp.problem {
            fail(
                "the EFI system partition (partition \(esp.partition)) could not be read: \(problem)", nil,
                matters: isAtHand)
            return nil
        }
        let loader = esp.loader(forDistribution: system?.identifier)
        // An ESP without a loader of this system was never meant to start it.
        if loader == nil, !isAtHand { return nil }
        let facts = loader.flatMap { survey.findings[GrubEFI()]?.loader(at: $0.path) }
        let isUsable = loader.map { _ in
            let searched = facts?.searchedUUIDs ?? []
            return searched.isEmpty
                || searched.contains { uuid in
                    survey.volumes.contains { $0.uuid?.lowercased() == uuid.lowercased() }
                }
        }
        let found = loader.map {
            PlannedLoader(
                folder: $0.folder, name: $0.name, companions: GrubEFI.companions(of: $0.name), isNew: false)
        }
        let sentence = "UEFI: \(loader?.path ?? "the loader") is there and finds this disk's filesystems"
        if isUsable == true, facts?.isInstalled == true || !isAtHand {
            alreadyRight.append(sentence)
            return found
        }
        let obstacle = obstacle(toInstallingOver: loader)
        if obstacle == nil, let system, let grub, let command = grub.install {
            let folder = loader?.folder ?? ESPSurvey.folderNames(ofDistribution: system.identifier).first ?? "grub"
            steps.append(
                .runGrubInstall(
                    platform: "x86_64-efi",
                    // The NVRAM entry is a step of its own, listed in the plan: no duplicates.
                    command: [
                        command, "--target=x86_64-efi", "--efi-directory=\(espMountPoint)", "--bootloader-id=\(folder)",
                        "--no-nvram",
                    ], needsESP: true, again: isUsable == true, by: GrubEFI().name))
            let name = grub.hasSignedShim ? "shimx64.efi" : "grubx64.efi"
            return PlannedLoader(
                folder: folder, name: name, companions: GrubEFI.companions(of: name), isNew: true)
        }
        if isUsable == true {
            alreadyRight.append("\(sentence) (grub-install is not run: \(obstacle?.reason ?? ""))")
            return found
        }
        let problem =
            loader.map { "\($0.path) looks for a filesystem that is not on this disk" }
            ?? (system == nil ? nil : "the EFI system partition holds no loader of this system")
        if let problem {
            fail(
                "UEFI: \(problem); the installed system's tools cannot mend it: \(obstacle?.reason ?? "")", obstacle,
                matters: isAtHand || !options.inRecoveryEnvironment)
        }
        return nil
    }

    /// Why grub-install cannot be run for UEFI in place of `loader`; `nil` where it can.
    private func obstacle(toInstallingOver loader: EFILoader?) -> Obstacle? {
        if let obstacle = obstacle(toInstalling: "x86_64-efi") { return obstacle }
        guard let grub else { return nil }
        if grub.install == "grub2-install" {
            return Obstacle(reason: "its loader belongs to packages, not to grub2-install", onlyHere: false)
        }
        if loader?.name.lowercased() == "shimx64.efi", !grub.hasSignedShim {
            return Obstacle(reason: "its shim would stand before an unsigned GRUB", onlyHere: false)
        }
        return obstacleToESP
    }

    /// Why nothing can be written to the ESP; `nil` where it can.
    private var obstacleToESP: Obstacle? {
        guard survey.access != .none else {
            return Obstacle(reason: survey.accessProblem ?? "its partitions cannot be mounted", onlyHere: true)
        }
        guard survey.kernelMountsFAT else {
            return Obstacle(reason: "this kernel does not mount FAT", onlyHere: true)
        }
        return nil
    }

    /// Plans `\EFI\BOOT\BOOTX64.EFI`.
    mutating func planFallback(_ loader: PlannedLoader?) {
        guard let esp = survey.esp, esp.problem == nil else { return }
        switch esp.fallback {
        case .foreign(let owner):
            warnings.append(
                "the fallback loader \(ESPSurvey.fallbackPath) belongs to \(owner): it is kept"
                    + (loader == nil ? "" : ". Firmware starts \(loader?.path ?? "") by an entry in its NVRAM only"))
        case .copy(let path):
            // A copy of what grub-install is about to replace would go stale.
            guard let loader, loader.isNew, path.lowercased().hasPrefix("\\efi\\\(loader.folder.lowercased())\\") else {
                alreadyRight.append("the fallback loader \(ESPSurvey.fallbackPath) is a copy of \(path)")
                return
            }
            makeFallback(loader, replacing: true)
        case .none:
            if let loader { makeFallback(loader, replacing: false) }
        }
    }

    private mutating func makeFallback(_ loader: PlannedLoader, replacing: Bool) {
        if let obstacle = obstacleToESP {
            fail(
                "there is no fallback loader \(ESPSurvey.fallbackPath), and it cannot be made: \(obstacle.reason)",
                obstacle, matters: survey.firmware == .uefi || !options.inRecoveryEnvironment)
            return
        }
        steps.append(.makeFallback(loader, replacing: replacing))
    }

    /// Plans the firmware's boot entry: in the recovery environment only, for it runs on the machine that is to boot.
    mutating func planNVRAM(_ loader: PlannedLoader?) {
        guard survey.firmware == .uefi, let loader, let esp = survey.esp, let volume = survey.volume(esp.partition)
        else {
            return
        }
        guard options.inRecoveryEnvironment, options.touchNVRAM else {
            alreadyRight.append(
                "the firmware's boot entries are left alone"
                    + (options.inRecoveryEnvironment ? " (as asked for)" : " (they are touched from the medium only)"))
            return
        }
        let isForeign = if case .foreign = esp.fallback { true } else { false }
        guard survey.tableKind == .gpt else {
            alreadyRight.append("the firmware's boot entries are left alone: the disk has no GPT")
            return
        }
        guard let nvram = survey.nvram, nvram.problem == nil else {
            let sentence = "no firmware boot entry was made: \(survey.nvram?.problem ?? "the entries cannot be read")"
            if isForeign {
                pending.append(
                    "\(sentence), and the fallback loader is another's: add an entry in the firmware's setup")
            } else {
                warnings.append("\(sentence). The machine starts by the fallback loader")
            }
            return
        }
        for entry in nvram.entries {
            guard entry.label == loader.folder, entry.path?.lowercased() == loader.path.lowercased(),
                let guid = entry.partitionGUID, guid != volume.guid, !nvram.attachedPartitions.contains(guid)
            else { continue }
            steps.append(.remove(entry, of: guid))
        }
        if let entry = nvram.entry(for: loader.path, on: volume.guid) {
            if nvram.bootOrder.contains(entry.number), entry.isActive {
                alreadyRight.append(
                    "the firmware's boot entry \(entry.number) \"\(entry.label)\" starts \(loader.path)")
            } else {
                steps.append(.putFirst(entry))
            }
        } else {
            steps.append(.addEntry(for: loader, on: volume, isNeeded: isForeign))
        }
    }
}
