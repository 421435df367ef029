// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import ImageModel
import Imaging
import JobModel

extension RestoreOperation {
    /// The firmware that the disk is to start by; `nil` for the captured one.
    ///
    /// `auto` changes nothing where no boot repair follows: without it the converted disk would start by no firmware.
    func firmwareRequest(_ manifest: Manifest) throws -> FirmwareRequest? {
        guard let choice = FirmwareChoice(rawValue: job.firmware) else {
            throw JobFailure(.usage, "\(job.firmware) is no firmware: keep, auto, bios or uefi")
        }
        switch choice {
        case .keep: return nil
        case .bios: return FirmwareRequest(.bios, isRequired: true)
        case .uefi: return FirmwareRequest(.uefi, isRequired: true)
        case .auto:
            guard bootRepairChoice(manifest) == .done else { return nil }
            return FirmwareRequest(Firmware.current == .uefi ? .uefi : .bios, isRequired: false)
        }
    }
}

extension RestoreOperation {
    /// Boot repair for the firmware that the disk was made to start by, with the PARTUUIDs that it had before.
    func bootRepairOptions(_ plan: RestorePlan, capturedDiskName: String?, isClone: Bool) -> BootRepairOptions {
        var options = BootRepairOptions.here(touchNVRAM: !isClone, capturedDiskName: capturedDiskName)
        guard let conversion = plan.conversion else { return options }
        options.firmware = Firmware(conversion.goal)
        options.capturedPartUUIDs = capturedPartUUIDs(plan)
        return options
    }

    /// The PARTUUIDs that a replaced MBR gave to its partitions, with the partitions' numbers.
    func capturedPartUUIDs(_ plan: RestorePlan) -> [String: Int] {
        guard plan.conversion?.replacesMBR == true, let table = capturedTable else { return [:] }
        let names = table.partitions.filter(\.isVolume).map { (table.partUUID(of: $0), $0.number) }
        return Dictionary(names, uniquingKeysWith: { first, _ in first })
    }
}

extension Firmware {
    /// The firmware of a converted disk.
    init(_ goal: TableConversion.Goal) { self = goal == .uefi ? .uefi : .bios }
}

extension PlanText {
    /// What changes for a start by the other firmware, a line each.
    static func lines(_ conversion: TableConversion, _ manifest: Manifest) -> [String] {
        let name = Firmware(conversion.goal).description
        var lines: [String] = []
        if conversion.replacesMBR {
            lines.append(
                "for a start by \(name), a GPT replaces the MBR: partitions keep their numbers, get new PARTUUIDs, and the "
                    + "disk does not start by BIOS any more")
        }
        if let added = conversion.added {
            let size = ByteText.rounded(added.range.byteCount)
            lines.append(
                conversion.goal == .uefi
                    ? "for a start by \(name), partition \(added.number) is made: an EFI system partition of \(size)"
                    : "for a start by \(name), partition \(added.number) is made: a BIOS boot partition of \(size) from "
                        + "sector \(added.range.lowerBound / 512) on, for GRUB's core image")
        }
        return lines
    }
}
