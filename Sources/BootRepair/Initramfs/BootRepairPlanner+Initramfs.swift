// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import SystemAccess

/// What the kernels and their initramfs hold: findings, and the rebuild where something is missing.
extension BootRepairPlanner {
    mutating func planInitramfs() {
        guard let system = target.system else { return }
        // A rescue kernel without modules is no help where its drivers are not known.
        let judged = system.kernels.filter { !$0.needs.isEmpty || $0.isBroken }
        let broken = judged.filter { $0.isBroken }
        // The user can choose another kernel in the loader's menu, or another controller of the machine.
        let severity: Finding.Severity? =
            broken.count < judged.count || !target.controllerIsKnown ? .mayStop : nil
        for kernel in system.kernels {
            guard let name = kernel.initramfs else {
                planMissing(kernel, system)
                continue
            }
            let path = "/boot/\(name)"
            planContents(kernel, path, system, severity)
            if kernel.version == nil, let contents = kernel.contents, contents.problem == nil, target.machineIsKnown {
                draft.find(
                    .kernelModulesMissing, "\(kernel.name) has no modules below /lib/modules",
                    at: .file("/boot/\(kernel.name)"), unfixed: "the drivers in \(path) are not judged")
            }
            for need in kernel.needs where need.modules.isEmpty {
                draft.find(
                    .driverNotInKernel, "the kernel \(kernel.version ?? kernel.name) has no driver for \(need.reason)",
                    severity: severity, at: .file("/boot/\(kernel.name)"),
                    unfixed: "attach the disk to another controller, or install a newer kernel")
            }
            for reference in kernel.contents?.lostReferences ?? [] { lose(reference, path, system) }
        }
    }

    /// A kernel without an initramfs.
    private mutating func planMissing(_ kernel: InstalledSystem.Kernel, _ system: InstalledSystem) {
        let sentence = "\(kernel.name) has no initramfs: it may not find its disk on other hardware"
        let evidence = Finding.Evidence.file("/boot/\(kernel.name)")
        guard !kernel.needs.isEmpty, target.obstacleToPrograms == nil, let version = kernel.version,
            let generator = system.initramfsGenerators.first, let path = Self.path(of: version, generator),
            var rebuild = InitramfsRebuild(
                generator, version: version, path: path, modules: [], isHostOnly: true, needs: kernel.neededModules)
        else {
            draft.find(.initramfsMissing, sentence, at: evidence, unfixed: "make it in the started system")
            return
        }
        rebuild.needsESP = copiesToESP
        draft.find(
            .initramfsMissing, sentence, at: evidence, fixedBy: [.rebuildInitramfs(rebuild, isNew: true)])
    }

    /// Whether the distribution's hooks copy a new initramfs to the EFI system partition: without a mount, they would
    /// write into the folder below it, or leave the copy that is started as it is.
    private var copiesToESP: Bool {
        target.startsWithoutGrub && survey.esp?.problem == nil && target.obstacleToESP == nil
    }

    /// The usual path of a new initramfs; `nil` if there is none.
    private static func path(of version: String, _ generator: InitramfsGenerator) -> String? {
        switch generator {
        case .initramfsTools: "/boot/initrd.img-\(version)"
        case .dracut: "/boot/initramfs-\(version).img"
        case .mkinitcpio, .unknown: nil
        }
    }

    private mutating func planContents(
        _ kernel: InstalledSystem.Kernel, _ path: String, _ system: InstalledSystem, _ severity: Finding.Severity?
    ) {
        guard let contents = kernel.contents else { return }
        let evidence = Finding.Evidence.file(path)
        switch contents.problem {
        case .unread(let reason):
            draft.find(.initramfsUnread, "\(path) could not be read", at: evidence, unfixed: reason)
            return
        case .damaged(let reason):
            rebuild(
                kernel, path, contents, system, .initramfsDamaged, "\(path): \(reason)", severity)
            return
        case nil: break
        }
        if !contents.unmet.isEmpty {
            let names = contents.missing.joined(separator: ", ")
            let reasons = contents.unmet.map(\.reason).joined(separator: ", ")
            rebuild(
                kernel, path, contents, system, .driverMissing,
                "\(path) lacks modules of this machine's way to its disk (\(names)), needed for \(reasons)",
                kernel.fallbackIsWhole ? .mayStop : severity)
        } else if kernel.needs.isEmpty, contents.isHostOnly == true {
            draft.find(
                .initramfsForOneMachine, "\(path) holds only the drivers of the machine that it was made on",
                at: evidence, unfixed: "on other hardware, run boot repair from the Reforge medium")
        } else if !kernel.needs.isEmpty {
            draft.alreadyRight.append("\(path) holds the modules of this machine's way to its disk")
        }
    }

    /// Plans a rebuild, or says why there is none.
    private mutating func rebuild(
        _ kernel: InstalledSystem.Kernel, _ path: String, _ contents: InitramfsSurvey, _ system: InstalledSystem,
        _ code: FindingCode, _ sentence: String, _ severity: Finding.Severity?
    ) {
        let evidence = Finding.Evidence.file(path)
        // Without a known machine, nothing says what the new one must hold.
        guard !kernel.needs.isEmpty, let version = kernel.version else {
            draft.find(code, sentence, severity: severity, at: evidence, unfixed: "rebuild it in the started system")
            return
        }
        let generator =
            system.initramfsGenerators.first { $0 == contents.generator } ?? system.initramfsGenerators.first
        let obstacle =
            target.obstacleToPrograms
            ?? (generator == nil ? BootObstacle("the system has no program that makes one") : nil)
        if obstacle != nil, kernel.fallbackIsWhole, let fallback = kernel.fallback {
            draft.find(
                code, sentence, severity: .mayStop, at: evidence,
                unfixed: "choose the entry with \(fallback) in the boot menu: it holds them")
            return
        }
        if let obstacle {
            draft.fail(code, sentence, at: evidence, obstacle, matters: severity == nil)
            return
        }
        guard
            var rebuild = InitramfsRebuild(
                generator ?? .unknown, version: version, path: path,
                // Those that they depend on come with them.
                modules: contents.unmet.compactMap(\.modules.first),
                isHostOnly: contents.isHostOnly ?? true, needs: kernel.neededModules,
                commandLine: contents.commandLine)
        else { return }
        rebuild.references = contents.references
        rebuild.needsESP = copiesToESP
        draft.find(
            code, sentence, severity: severity, at: evidence, fixedBy: [.rebuildInitramfs(rebuild, isNew: false)])
    }

    mutating func lose(_ reference: InitramfsReference, _ path: String, _ system: InstalledSystem) {
        switch reference.purpose {
        case .resume: draft.loseResume(of: BootReference(reference.text[...]).text, system, at: .file(path))
        case .root:
            draft.find(
                .initramfsReferenceLost,
                "\(reference.file) in \(path) names \(reference.text), which is not on this disk", at: .file(path),
                unfixed: "correct the system's configuration, and rebuild the initramfs")
        }
    }
}

extension InstalledSystem.Kernel {
    /// What its initramfs must hold: the needs that its modules can meet.
    var neededModules: [ModuleNeed] { needs.filter { !$0.modules.isEmpty } }

    /// Whether it does not start the system on the machine.
    var isBroken: Bool {
        if needs.contains(where: \.modules.isEmpty) { return true }
        if case .damaged = contents?.problem { return true }
        return contents?.unmet.isEmpty == false && !fallbackIsWhole
    }
}
