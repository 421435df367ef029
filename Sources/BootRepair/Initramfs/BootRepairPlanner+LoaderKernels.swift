// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import SystemAccess

/// What a loader starts from the EFI system partition or the extended boot partition: copies of files of /boot, and
/// unified kernel images. A rebuild in /boot alone does not reach them.
extension BootRepairPlanner {
    /// A kernel with its initramfs on such a partition.
    private struct LoaderKernel {
        /// The subject of a sentence.
        let name: String
        let place: TreePlace
        let partition: Int
        /// The initramfs, or the image that holds it, with slashes.
        let path: String
        let contents: InstalledSystem.Kernel
        /// `nil` for an entry with files of its own.
        let image: UnifiedKernel?

        var evidence: Finding.Evidence { Finding.Evidence(partition: partition, file: path) }
    }

    mutating func planLoaderKernels() {
        guard let system = target.system else { return }
        let kernels = loaderKernels
        let broken = kernels.filter { $0.contents.isBroken }
        // The user can choose another entry, or another controller of the machine; or another loader is in use.
        let severity: Finding.Severity? =
            broken.count < kernels.count || !target.controllerIsKnown || !target.startsWithoutGrub ? .mayStop : nil
        for kernel in kernels {
            plan(kernel, system, severity)
            for need in kernel.contents.needs where need.modules.isEmpty {
                draft.find(
                    .driverNotInKernel,
                    "the kernel \(kernel.contents.version ?? kernel.name) has no driver for \(need.reason)",
                    severity: severity, at: kernel.evidence,
                    unfixed: "attach the disk to another controller, or install a newer kernel")
            }
            for reference in kernel.contents.contents?.lostReferences ?? [] { lose(reference, kernel.name, system) }
        }
    }

    private var loaderKernels: [LoaderKernel] {
        let entries = (survey.findings[SystemdBoot()]?.own ?? []).compactMap { entry in
            entry.contents.map { contents in
                LoaderKernel(
                    name: "the initramfs of the boot entry \(entry.name)", place: entry.file.place,
                    partition: entry.partition, path: contents.initramfs ?? "", contents: contents, image: nil)
            }
        }
        let finding = survey.findings[UnifiedKernels()]
        let images = (finding?.own ?? []) + [finding?.fallback].compactMap { $0 }
        return entries
            + images.compactMap { image in
                image.contents.map { contents in
                    LoaderKernel(
                        name: "the initramfs in \(image.path)", place: image.place, partition: image.partition,
                        path: image.slashedPath, contents: contents, image: image)
                }
            }
    }

    private mutating func plan(_ kernel: LoaderKernel, _ system: InstalledSystem, _ severity: Finding.Severity?) {
        guard let contents = kernel.contents.contents else { return }
        let needs = kernel.contents.needs
        switch contents.problem {
        case .unread(let reason):
            draft.find(.initramfsUnread, "\(kernel.name) could not be read", at: kernel.evidence, unfixed: reason)
        case .damaged(let reason):
            rebuild(kernel, contents, system, .initramfsDamaged, "\(kernel.name): \(reason)", severity)
        case nil where !contents.unmet.isEmpty:
            let names = contents.missing.joined(separator: ", ")
            let reasons = contents.unmet.map(\.reason).joined(separator: ", ")
            rebuild(
                kernel, contents, system, .driverMissing,
                "\(kernel.name) lacks modules of this machine's way to its disk (\(names)), needed for \(reasons)",
                severity)
        case nil where needs.isEmpty && contents.isHostOnly == true:
            draft.find(
                .initramfsForOneMachine, "\(kernel.name) holds only the drivers of the machine that it was made on",
                at: kernel.evidence, unfixed: "on other hardware, run boot repair from the Reforge medium")
        case nil where !needs.isEmpty:
            draft.alreadyRight.append("\(kernel.name) holds the modules of this machine's way to its disk")
        case nil: break
        }
    }

    /// Plans a rebuild by kernel-install, or says why there is none.
    private mutating func rebuild(
        _ kernel: LoaderKernel, _ contents: InitramfsSurvey, _ system: InstalledSystem, _ code: FindingCode,
        _ sentence: String, _ severity: Finding.Severity?
    ) {
        // Without a known machine, nothing says what the new one must hold.
        guard !kernel.contents.needs.isEmpty, let version = kernel.contents.version else {
            draft.find(
                code, sentence, severity: severity, at: kernel.evidence, unfixed: "rebuild it in the started system")
            return
        }
        let file = kernelFile(version)
        if let obstacle = obstacle(to: kernel, version, file) {
            draft.fail(code, sentence, at: kernel.evidence, obstacle, matters: severity == nil)
            return
        }
        var rebuild = InitramfsRebuild(
            kernelInstall: version, kernelFile: file ?? "", path: kernel.path, in: kernel.place,
            isUnified: kernel.image != nil, generator: contents.generator,
            modules: contents.unmet.compactMap(\.modules.first), needs: kernel.contents.neededModules)
        rebuild.references = contents.references
        rebuild.commandLine = contents.commandLine
        draft.find(
            code, sentence, severity: severity, at: kernel.evidence,
            fixedBy: [.rebuildInitramfs(rebuild, isNew: false)])
    }

    /// The kernel in the system that its kernel-install takes; `nil` if there is none, or no kernel-install.
    private func kernelFile(_ version: String) -> String? {
        if let finding = survey.findings[SystemdBoot()], finding.hasKernelInstall,
            let file = finding.kernelFiles[version]
        {
            return file
        }
        guard let finding = survey.findings[UnifiedKernels()], finding.hasKernelInstall else { return nil }
        return finding.kernelFiles[version]
    }

    private func obstacle(to kernel: LoaderKernel, _ version: String, _ file: String?) -> BootObstacle? {
        if let image = kernel.image {
            if image.name.lowercased() == "bootx64.efi" {
                return BootObstacle("build the image again in the started system, and copy it there")
            }
            if image.isSigned, survey.findings[UnifiedKernels()]?.hasSigning != true {
                return BootObstacle(
                    "it is signed, and the system has no signing of its own: a new one would not start with Secure Boot"
                )
            }
            if survey.findings[UnifiedKernels()]?.commandLineFile != "/etc/kernel/cmdline" {
                return BootObstacle(
                    "the system has no /etc/kernel/cmdline: a new image would get the command line of this start")
            }
        }
        guard file != nil else {
            return BootObstacle("the installed system cannot write it (kernel-install and the kernel \(version))")
        }
        return target.obstacleToKernelInstall
    }
}
