// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemAccess

/// The machine that the disk is judged for, where it is known.
extension BootRepairPlanner {
    /// A machine of one firmware, and a disk that is meant only for the other.
    mutating func judgeFirmware() {
        guard target.machineIsKnown, !draft.firmware.contains(survey.firmware) else { return }
        let isMeantToStart = target.system != nil || survey.esp?.loaders.isEmpty == false || !draft.firmware.isEmpty
        guard isMeantToStart else { return }
        switch survey.firmware {
        case .bios:
            draft.fail(
                .noBIOSBoot,
                "the machine starts by BIOS, but the disk has neither boot code nor a BIOS boot partition",
                BootObstacle("switch the machine's firmware to UEFI"), matters: true)
        case .uefi:
            guard survey.esp == nil else { return }
            draft.fail(
                .noUEFIBoot, "the machine starts by UEFI, but the disk has no EFI system partition",
                BootObstacle("switch the machine's firmware to legacy BIOS (CSM)"), matters: true)
        }
    }

    mutating func judgeMachine() {
        guard let machine = options.machine else { return }
        judgeSecureBoot(machine)
        if machine.controllers.contains(where: \.hidesNVMe) {
            draft.find(.raidMode(machine))
        }
        if let system = target.system, !system.programsRunHere {
            draft.find(
                .otherProcessor, "the programs of \(system.name) are not for the processor of this machine",
                unfixed: "start it on a machine with a processor of its kind")
        }
    }

    /// UEFI 2.10 §32.3: firmware starts only signed files. What the signature is worth to it is not known here.
    private mutating func judgeSecureBoot(_ machine: MachineRecord) {
        guard machine.secureBoot == true, survey.firmware == .uefi, let esp = survey.esp else { return }
        let unsigned: String?
        var severity: Finding.Severity?
        if let loader = draft.start {
            unsigned = isSigned(loader, esp) == false ? loader.path : unsignedSecondStage(of: loader, esp)
        } else {
            // Only the fallback loader is known to start the disk.
            unsigned = esp.fallbackIsSigned == false ? ESPSurvey.fallbackPath : nil
            severity = esp.loaders.isEmpty && target.system != nil ? .stops : .mayStop
        }
        guard let unsigned else { return }
        draft.find(
            .secureBootUnsigned, "\(machine.name) enforces Secure Boot, and \(unsigned) has no signature",
            severity: severity, at: Finding.Evidence(partition: esp.partition, file: unsigned),
            unfixed: "switch Secure Boot off in the firmware's setup, or install the distribution's signed shim")
    }

    /// `nil` if it is not known. Unified kernel images are surveyed by their own row.
    private func isSigned(_ loader: PlannedLoader, _ esp: ESPSurvey) -> Bool? {
        if loader.isNew { return loader.name.lowercased() == "shimx64.efi" }
        let path = loader.path.lowercased()
        let images = survey.findings[UnifiedKernels()]?.images ?? []
        return esp.loaders.first { $0.path.lowercased() == path }?.isSigned
            ?? images.first { $0.path.lowercased() == path }?.isSigned
    }

    /// The program that a present shim starts from beside itself (`grubx64.efi`; openSUSE: `grub.efi`), if it has no
    /// signature: shim starts only what is signed.
    private func unsignedSecondStage(of loader: PlannedLoader, _ esp: ESPSurvey) -> String? {
        guard !loader.isNew, GrubEFI.isShim(loader.name) else { return nil }
        let names = ["grubx64.efi", "grub.efi"].map { "\\efi\\\(loader.folder)\\\($0)".lowercased() }
        let beside = esp.loaders.filter { names.contains($0.path.lowercased()) }
        return beside.allSatisfy { $0.isSigned == false } ? beside.first?.path : nil
    }

    /// Volumes whose keys are bound to the machine that they were sealed on.
    mutating func judgeSealedVolumes() {
        for volume in survey.volumes where volume.kindName == "BitLocker" {
            draft.find(
                .bitLocker, "\(volume.place) is encrypted by BitLocker", at: Finding.Evidence(partition: volume.number),
                unfixed: "another machine asks for its recovery key: have it at hand")
        }
        for volume in survey.sealedVolumes {
            let place = survey.volume(volume.partition)?.place ?? "partition \(volume.partition)"
            draft.find(
                .luksSealed,
                "\(place) (LUKS) is opened by the old machine's TPM (\(volume.tokens.joined(separator: ", ")))",
                at: Finding.Evidence(partition: volume.partition),
                unfixed: "another machine asks for its passphrase or recovery key: have it at hand, and enroll the new "
                    + "TPM afterwards")
        }
    }
}

extension Finding {
    static func raidMode(_ machine: MachineRecord) -> Finding {
        Finding(
            .controllerRAIDMode,
            "\(machine.name) has an Intel storage controller in RAID mode, which can hide NVMe disks from every system "
                + "without Intel's driver",
            fix: .none(
                "set the controller to AHCI in the firmware's setup, before a restore; a Windows on it needs storahci "
                    + "and stornvme enabled first"))
    }
}
