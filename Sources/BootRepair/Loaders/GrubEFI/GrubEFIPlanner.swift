// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess

/// Plans the loader on the EFI system partition.
struct GrubEFIPlanner {
    let target: BootTarget
    var plan = LoaderPlan()

    private var finding: GrubEFIFinding { target.survey.findings[GrubEFI()] ?? GrubEFIFinding() }

    init(_ target: BootTarget) { self.target = target }

    mutating func planLoader() {
        let isAtHand = target.isAtHand(.uefi)
        // Without one, or one that can be read, the planner of the whole says so.
        guard let esp = target.survey.esp, esp.problem == nil else { return }
        let loader = esp.loader(forDistribution: target.system?.identifier)
        if target.startsWithoutGrub { return }
        // An ESP without a loader of this system is not used to start it.
        if loader == nil, !isAtHand { return }
        plan.firmware = [.uefi]
        let found = loader.flatMap { finding.loader(at: $0.path) }
        let isUsable = loader.map { _ in findsItsFilesystems(found?.searchedUUIDs ?? []) }
        let sentence = "UEFI: \(loader?.path ?? "the loader") exists and finds this disk's filesystems"
        if isUsable == true, found?.isInstalled == true || !isAtHand {
            plan.alreadyRight.append(sentence)
            plan.start = loader.map { start($0.folder, $0.name, isNew: false) }
            return
        }
        let obstacle = obstacle(toInstallingOver: loader)
        if obstacle == nil, let system = target.system, let grub = target.grub, let command = grub.install {
            let folder = loader?.folder ?? ESPSurvey.folderNames(ofDistribution: system.identifier).first ?? "grub"
            let step = BootRepairStep.runGrubInstall(
                platform: "x86_64-efi",
                // The NVRAM entry is a separate step of the plan: this avoids duplicates.
                command: [
                    command, "--target=x86_64-efi", "--efi-directory=\(target.espMountPoint)",
                    "--bootloader-id=\(folder)",
                    "--no-nvram",
                ], needsESP: true, again: isUsable == true, by: GrubEFI().name)
            if isUsable == true {
                plan.alreadyRight.append(sentence)
                plan.steps.append(step)
            } else {
                let (code, problem) = problem(with: loader)
                plan.find(
                    code, problem, severity: target.matters(.uefi) ? nil : .note, at: evidence(loader),
                    fixedBy: [step])
            }
            plan.start = start(folder, grub.hasSignedShim ? "shimx64.efi" : "grubx64.efi", isNew: true)
            return
        }
        if isUsable == true {
            plan.alreadyRight.append("\(sentence) (grub-install is not run: \(obstacle?.reason ?? ""))")
            plan.start = loader.map { start($0.folder, $0.name, isNew: false) }
            return
        }
        guard loader != nil || target.system != nil else { return }
        let (code, problem) = problem(with: loader)
        if let write = ownWrite(over: loader) {
            plan.find(
                code, problem, severity: target.matters(.uefi) ? nil : .note, at: evidence(loader),
                fixedBy: [.writeGrubEFI(write, by: GrubEFI().name)])
            noteMedium(write)
            plan.start = start(write.folder, GrubEFIWrite.fileName, isNew: true)
            return
        }
        plan.fail(
            code, problem, at: evidence(loader),
            BootObstacle(
                "the installed system's tools cannot repair it: \(obstacle?.reason ?? "")",
                onlyHere: obstacle?.onlyHere ?? false), matters: target.matters(.uefi))
    }

    /// What is wrong with a loader that cannot be used, or without one.
    private func problem(with loader: EFILoader?) -> (FindingCode, String) {
        guard let loader else {
            return (.grubLoaderMissing, "UEFI: the EFI system partition holds no loader of this system")
        }
        return (.grubLoaderLost, "UEFI: \(loader.path) looks for a filesystem that is not on this disk")
    }

    private func evidence(_ loader: EFILoader?) -> Finding.Evidence {
        Finding.Evidence(partition: target.survey.esp?.partition, file: loader?.path)
    }

    /// GRUB made by Reforge's built-in fallback; `nil` if it has none.
    private func ownWrite(over loader: EFILoader?) -> GrubEFIWrite? {
        guard let system = target.system, let grub = target.grub, system.missingBoot == nil,
            target.obstacleToESP == nil, grub.configurationProblems != nil, finding.ownTools.contains("grub-mkimage"),
            // A shim starts only what is signed.
            loader.map({ GrubEFI.isShim($0.name) }) != true,
            // Its configuration opens no LUKS volume, and its image knows no arrays.
            let boot = target.survey.volume(system.bootPartition), boot.inside == nil, let uuid = boot.uuid,
            let driver = boot.traits.grubModule
        else { return nil }
        let modulesFolder = grub.platforms.contains("x86_64-efi") ? "/usr/lib/grub/x86_64-efi" : nil
        // Other distributions' menus may need modules that the medium's GRUB does not have.
        guard modulesFolder != nil || finding.ownTools.contains("x86_64-efi") && !grub.usesLoaderEntries else {
            return nil
        }
        return GrubEFIWrite(
            folder: loader?.folder ?? ESPSurvey.folderNames(ofDistribution: system.identifier).first ?? "grub",
            modulesFolder: modulesFolder, drivers: boot.logicalVolume == nil ? [driver] : ["lvm", driver], uuid: uuid,
            path: grub.path)
    }

    private mutating func noteMedium(_ write: GrubEFIWrite) {
        guard write.modulesFolder == nil else { return }
        plan.find(
            .grubFromMedium, "\(target.system?.name ?? "the system") has no GRUB for UEFI of its own",
            unfixed: "install its package (Debian: grub-efi-amd64) in the started system, so that updates reach it")
    }

    /// The reason grub-install cannot run for UEFI in place of `loader`; `nil` if it can.
    private func obstacle(toInstallingOver loader: EFILoader?) -> BootObstacle? {
        if let obstacle = target.obstacle(toInstallingGrub: "x86_64-efi") { return obstacle }
        guard let grub = target.grub else { return nil }
        if grub.install == "grub2-install" {
            return BootObstacle("its loader belongs to packages, not to grub2-install")
        }
        if let loader, GrubEFI.isShim(loader.name), !grub.hasSignedShim {
            return BootObstacle("its shim would stand before an unsigned GRUB")
        }
        return target.obstacleToESP
    }

    /// Whether this disk has one of the filesystems that a loader searches for.
    private func findsItsFilesystems(_ searched: [String]) -> Bool {
        searched.isEmpty
            || searched.contains { uuid in
                target.survey.volumes.contains { $0.uuid?.lowercased() == uuid.lowercased() }
            }
    }

    private func start(_ folder: String, _ name: String, isNew: Bool) -> PlannedLoader {
        PlannedLoader(folder: folder, name: name, companions: GrubEFI.companions(of: name), isNew: isNew)
    }
}
