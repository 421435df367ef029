// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// What is known of how a disk starts before an image is restored onto it: what the capture saw, and the target.
package struct ForeseenDisk: Equatable, Sendable {
    /// The boot code and the loaders of the captured disk.
    package var boot: BootSurvey
    /// The addressing unit of the target, in bytes.
    package var sectorSize: Int
    /// The places of volumes that BitLocker or a TPM may guard, by their names in the plan.
    package var bitLockerVolumes: [String]

    package init(boot: BootSurvey, sectorSize: Int, bitLockerVolumes: [String] = []) {
        self.boot = boot
        self.sectorSize = sectorSize
        self.bitLockerVolumes = bitLockerVolumes
    }

    /// The findings that a restore cannot change: those of the firmware and of the target itself. What depends on the
    /// restored system is judged by the doctor, of the image or of the restored disk. Pure.
    /// - Parameter machine: the machine that will start the disk; `nil` if it is not known.
    package func findings(for machine: MachineRecord?) -> [Finding] {
        let startsByBIOS = boot.biosBootCode != nil
        let startsByUEFI = !boot.efiLoaders.isEmpty
        // A disk of data only.
        guard startsByBIOS || startsByUEFI else { return [] }
        var found: [Finding] = []
        switch machine?.firmware {
        case .bios where !startsByBIOS:
            found.append(
                Finding(
                    .noBIOSBoot, "this machine starts by BIOS, and the captured disk has loaders for UEFI only",
                    fix: .none("switch the machine's firmware to UEFI")))
        case .uefi where !startsByUEFI:
            found.append(
                Finding(
                    .noUEFIBoot, "this machine starts by UEFI, and the captured disk has boot code for BIOS only",
                    fix: .none("switch the machine's firmware to legacy BIOS (CSM)")))
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
        if let machine, machine.controllers.contains(where: \.hidesNVMe) { found.append(.raidMode(machine)) }
        return FindingCode.inOrder(found) { $0.stage }
    }
}
