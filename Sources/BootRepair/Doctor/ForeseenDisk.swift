// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// What is known of how a disk starts before an image is restored onto it: what the capture saw, and the target.
package struct ForeseenDisk: Equatable, Sendable {
    /// The boot code and the loaders of the captured disk.
    package var boot: BootSurvey
    /// The partition table of the captured disk.
    package var table: PartitionTable
    /// The addressing unit of the target, in bytes.
    package var sectorSize: Int
    /// The places of volumes that BitLocker or a TPM may guard, by their names in the plan.
    package var bitLockerVolumes: [String]
    /// Whether the captured machine enforced Secure Boot, so that its firmware accepted the loader; `nil` if not known.
    package var wasSecureBoot: Bool?
    /// The change for the other firmware that the plan makes; `nil` if the disk starts as captured.
    package var conversion: TableConversion?

    package init(
        boot: BootSurvey, table: PartitionTable, sectorSize: Int, bitLockerVolumes: [String] = [],
        wasSecureBoot: Bool? = nil,
        conversion: TableConversion? = nil
    ) {
        self.boot = boot
        self.table = table
        self.sectorSize = sectorSize
        self.bitLockerVolumes = bitLockerVolumes
        self.wasSecureBoot = wasSecureBoot
        self.conversion = conversion
    }

    /// What the restored disk starts by: boot repair makes the loader that a conversion needs.
    private var startsByBIOS: Bool {
        switch conversion?.goal {
        case .bios: true
        case .uefi where conversion?.replacesMBR == true: false
        case .uefi, nil: boot.startsByBIOS(from: table.kind, attributes: table.partitions.map(\.attributes))
        }
    }

    private var startsByUEFI: Bool { conversion?.goal == .uefi || !boot.efiLoaders.isEmpty }

    /// The findings that a restore cannot change: those of the firmware and of the target itself. What depends on the
    /// restored system is judged by the doctor, of the image or of the restored disk. Pure.
    /// - Parameter machine: the machine that will start the disk; `nil` if it is not known.
    package func findings(for machine: MachineRecord?) -> [Finding] {
        var found: [Finding] = []
        // Also for a disk of data: the disk that is meant may be a hidden one.
        if let machine, machine.controllers.contains(where: \.hidesNVMe) { found.append(.raidMode(machine)) }
        // A disk of data only.
        guard startsByBIOS || startsByUEFI else { return found }
        switch machine?.firmware {
        case .bios where !startsByBIOS:
            found.append(
                Finding(
                    .noBIOSBoot, "this machine starts by BIOS, and the captured disk has loaders for UEFI only",
                    fix: .none("switch the machine's firmware to UEFI, or restore with --firmware bios")))
        case .uefi where !startsByUEFI:
            found.append(
                Finding(
                    .noUEFIBoot, "this machine starts by UEFI, and the captured disk has boot code for BIOS only",
                    fix: .none(
                        "switch the machine's firmware to legacy BIOS (CSM), or restore with --firmware uefi")))
        default: break
        }
        if startsByBIOS, !startsByUEFI || machine?.firmware == .bios, sectorSize != 512 {
            found.append(
                Finding(
                    .grubSectorSize,
                    "by BIOS, no known loader starts from a disk with sectors of \(sectorSize) bytes, as the target has",
                    fix: .none("take a disk with sectors of 512 bytes, or a machine with UEFI")))
        }
        found += bitLockerVolumes.map { name in
            Finding(
                .bitLocker, "\(name) is encrypted by BitLocker, which asks for the recovery key on another machine",
                fix: .none("have the recovery key at hand"))
        }
        if let machine, let unsigned = unsignedLoader(on: machine) { found.append(unsigned) }
        return FindingCode.inOrder(found) { $0.stage }
    }

    /// Firmware that enforces Secure Boot, and a disk whose loader is signed by nothing that is known. The capture knows
    /// names alone; boot repair of the restored disk looks at the files.
    private func unsignedLoader(on machine: MachineRecord) -> Finding? {
        guard machine.secureBoot == true, machine.firmware == .uefi, startsByUEFI else { return nil }
        let advice = Finding.Fix.none(
            "if it does not start, switch Secure Boot off in the firmware's setup, or install the distribution's signed "
                + "shim and GRUB in the system")
        if conversion?.goal == .uefi, boot.efiLoaders.isEmpty {
            return Finding(
                .secureBootUnsigned,
                "this machine enforces Secure Boot, and the loader that is made for UEFI has no signature unless the "
                    + "system has its distribution's shim", severity: .mayStop, fix: advice)
        }
        let isKnown = boot.efiLoaders.contains { path in
            ["shim", "bootmgfw.efi"].contains { path.lowercased().contains($0) }
        }
        guard !isKnown, wasSecureBoot != true else { return nil }
        return Finding(
            .secureBootUnsigned,
            "this machine enforces Secure Boot, and the captured disk has no shim "
                + "(\(boot.efiLoaders.prefix(8).joined(separator: ", ")))", severity: .mayStop, fix: advice)
    }
}
