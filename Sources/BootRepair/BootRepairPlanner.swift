// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// Makes a plan from a survey. Pure: the same survey and options give the same plan.
struct BootRepairPlanner {
    let survey: SystemBootSurvey
    let options: BootRepairOptions
    var steps: [BootRepairStep] = []
    var alreadyRight: [String] = []
    var warnings: [String] = []
    var pending: [String] = []
    /// Whether something pending could be done from the medium.
    var mediumHelps = false

    var system: InstalledSystem? { survey.system }
    var bios: GrubBIOSFinding { survey.findings[GrubBIOS()] ?? GrubBIOSFinding(chain: .absent) }
    var grub: GrubInstallation? { system == nil ? nil : survey.findings[GrubMenu()] }

    /// Why an installed tool cannot run.
    struct Obstacle {
        let reason: String
        /// Whether it could in the recovery environment.
        let onlyHere: Bool
    }

    init(_ survey: SystemBootSurvey, _ options: BootRepairOptions) {
        self.survey = survey
        self.options = options
    }

    mutating func plan() -> BootRepairPlan {
        if survey.hasTable {
            if let problem = survey.systemProblem { warnings.append(problem) }
            planFstab()
            let installsBIOS = planBIOS()
            let loader = planEFI()
            planConfiguration(afterInstall: installsBIOS || loader?.isNew == true)
            planFallback(loader)
            planNVRAM(loader)
            checkKernels()
        } else {
            alreadyRight.append("the disk has no partition table: there is no loader to repair")
        }
        return BootRepairPlan(
            disk: survey.disk, diskGUID: survey.diskGUID, diskSignature: survey.diskSignature, volumes: survey.volumes,
            firmware: survey.firmware,
            systemName: system?.name, grubFolder: grub?.folder ?? "/boot/grub", mounts: mounts(),
            steps: BootVerb.Stage.allCases.flatMap { stage in steps.filter { $0.verb.stage == stage } },
            alreadyRight: alreadyRight, warnings: warnings, pendingReason: pendingText())
    }

    private func pendingText() -> String? {
        guard !pending.isEmpty else { return nil }
        let reasons = pending.joined(separator: ". ")
        guard mediumHelps, !options.inRecoveryEnvironment else { return reasons }
        return reasons + ". Start the machine from the Reforge medium and run `reforge boot-repair DISK` there"
    }

    /// The root, a /boot of its own, and the ESP; only what the steps need.
    private func mounts() -> [BootRepairPlan.MountPoint] {
        var mounts: [BootRepairPlan.MountPoint] = []
        if steps.contains(where: \.verb.needsSystem), let system {
            mounts.append(.init(partition: system.rootPartition, path: "/", subvolume: system.rootSubvolume))
            mounts += system.bootMounts
        }
        if steps.contains(where: \.verb.needsESP), let esp = survey.esp {
            mounts.append(.init(partition: esp.partition, path: mounts.isEmpty ? "/" : espMountPoint))
        }
        return mounts
    }

    /// Where the ESP is mounted inside the system.
    var espMountPoint: String {
        survey.esp.flatMap { system?.mountPoint(ofPartition: $0.partition) } ?? "/boot/efi"
    }

    // MARK: fstab

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
                warnings.append(
                    "/etc/fstab: \(entry.mountPoint) is on \(entry.device), which is not on this disk; it was left. "
                        + "If that disk is missing, the system waits for it and starts in emergency mode")
            default: break
            }
        }
        if !changes.isEmpty {
            steps.append(.fixFstab(changes))
        } else if system.fstab.contains(where: { $0.partition != nil }) {
            alreadyRight.append("/etc/fstab names this disk's partitions by what they keep")
        }
    }

    // MARK: the installed system's tools

    /// Why the system's own grub-install cannot be run for `platform`; `nil` where it can.
    func obstacle(toInstalling platform: String) -> Obstacle? {
        guard system != nil else {
            return Obstacle(reason: "no installed system could be looked into", onlyHere: survey.access == .none)
        }
        guard let grub, grub.install != nil else { return Obstacle(reason: "it has no grub-install", onlyHere: false) }
        guard grub.platforms.contains(platform) else {
            return Obstacle(reason: "it has no GRUB for \(platform)", onlyHere: false)
        }
        return obstacleToPrograms
    }

    /// Why the system's programs cannot be run; `nil` where they can.
    var obstacleToPrograms: Obstacle? {
        guard let system else { return Obstacle(reason: "no installed system was found", onlyHere: false) }
        guard system.programsRunHere else {
            return Obstacle(reason: "its programs are for another processor", onlyHere: false)
        }
        if let boot = system.missingBoot {
            return Obstacle(reason: "its /boot (\(boot)) cannot be mounted here", onlyHere: false)
        }
        guard survey.access == .partitionNodes else {
            return Obstacle(
                reason: survey.accessProblem ?? "this kernel has no nodes for the disk's partitions", onlyHere: true)
        }
        return nil
    }

    /// Notes something that is needed and cannot be done; as a warning only where this machine starts without it.
    mutating func fail(_ sentence: String, _ obstacle: Obstacle?, matters: Bool) {
        guard matters else {
            warnings.append(sentence)
            return
        }
        pending.append(sentence)
        if obstacle?.onlyHere == true { mediumHelps = true }
    }

    // MARK: grub.cfg, kernels

    private mutating func planConfiguration(afterInstall: Bool) {
        guard let grub, afterInstall || grub.configurationProblems != nil || grub.install != nil else {
            return
        }
        let path = "\(grub.folder)/grub.cfg"
        let problems = grub.configurationProblems ?? ["there is none"]
        if problems.isEmpty, !afterInstall {
            alreadyRight.append("\(path) finds this system's root by UUID")
            return
        }
        let obstacle =
            grub.update == nil ? Obstacle(reason: "it has no update-grub", onlyHere: false) : obstacleToPrograms
        if obstacle == nil, let command = grub.update {
            steps.append(.updateGrub(command, folder: grub.folder, by: GrubMenu().name))
        } else if !problems.isEmpty {
            fail(
                "\(path) needs to be written anew (\(problems.joined(separator: "; "))), but \(obstacle?.reason ?? "")",
                obstacle, matters: true)
        }
    }

    private mutating func checkKernels() {
        guard let system else { return }
        if system.kernels.isEmpty {
            warnings.append("there is no kernel in /boot of \(system.name)")
        }
        for kernel in system.kernels where kernel.initramfs == nil {
            warnings.append("\(kernel.name) has no initramfs: it may not find its disk on other hardware")
        }
        let places = grub?.lostResume ?? []
        for place in places + system.lostResume.filter({ !places.contains($0) }) {
            warnings.append(
                "\(system.name) resumes from hibernation on \(place), which is not on this disk by that name: it may wait for "
                    + "it at each start")
        }
        if system.initramfsIsForOneMachine {
            warnings.append(
                "the initramfs of \(system.name) holds the drivers of the machine that it was made on only; on other "
                    + "hardware, start its rescue entry and make the initramfs anew")
        }
    }
}
