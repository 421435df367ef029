// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import SystemAccess

/// The `--json` form of steps that belong to no single loader.
enum CommonStep: StepRecord {
    /// First fields of /etc/fstab are replaced.
    case fixFstab(changes: [FstabChange])
    /// Files of the EFI system partition are copied to `\EFI\BOOT`. `from` is the folder of the loader, as a path with
    /// backslashes, `loader` the file in it that becomes BOOTX64.EFI.
    case makeFallback(from: String, loader: String, replacing: Bool)
    /// An entry of the firmware's NVRAM, first in its order. `isNeeded`: the machine does not start this disk without it.
    case addNVRAMEntry(label: String, partition: Int, partitionGUID: GUID, path: String, isNeeded: Bool)
    /// An existing entry is moved to the front of the boot order.
    case orderNVRAMEntry(number: String, label: String)
    /// An entry of the same name and file that points to a partition which no attached disk has.
    case removeNVRAMEntry(number: String, label: String, partitionGUID: GUID)

    /// A line for the user.
    var description: String {
        switch self {
        case .fixFstab(let changes):
            "rewrite /etc/fstab (\(changes.map(\.description).joined(separator: "; ")))"
        case .makeFallback(let from, let loader, let replacing):
            "\(replacing ? "renew" : "make") the fallback loader \(ESPSurvey.fallbackPath) from \(from)\\\(loader)"
        case .addNVRAMEntry(let label, let partition, _, let path, _):
            "add the firmware boot entry \"\(label)\" for \(path) on partition \(partition)"
        case .orderNVRAMEntry(let number, let label):
            "put the firmware boot entry \(number) \"\(label)\" first in the boot order"
        case .removeNVRAMEntry(let number, let label, let guid):
            "remove the firmware boot entry \(number) \"\(label)\", whose partition \(guid) is on no disk here"
        }
    }
}

extension BootRepairStep {
    static func fixFstab(_ changes: [FstabChange]) -> BootRepairStep {
        BootRepairStep(
            CommonStep.fixFstab(changes: changes),
            .editFile(
                FileEdit(
                    TreePath(.system, "/etc/fstab"), changes.map(\.word),
                    done: "rewrote /etc/fstab (\(changes.map(\.description).joined(separator: "; ")))")))
    }

    /// - Parameter replacing: whether there is already a fallback loader of this loader.
    static func makeFallback(_ loader: PlannedLoader, replacing: Bool) -> BootRepairStep {
        let from = "\\EFI\\\(loader.folder)"
        var files = [
            FileCopies.Copy(from: TreePath(.esp, "EFI/\(loader.folder)/\(loader.name)"), to: "EFI/BOOT/BOOTX64.EFI")
        ]
        files += loader.companions.map { name in
            FileCopies.Copy(
                from: TreePath(.esp, "EFI/\(loader.folder)/\(name)"), to: "EFI/BOOT/\(name)", isRequired: false)
        }
        return BootRepairStep(
            CommonStep.makeFallback(from: from, loader: loader.name, replacing: replacing),
            .copyFile(
                FileCopies(
                    "the fallback loader", in: .esp, files,
                    done: "made \(ESPSurvey.fallbackPath) from \(from)\\\(loader.name)")))
    }

    /// - Parameter isNeeded: whether the machine does not start this disk without it.
    static func addEntry(for loader: PlannedLoader, on volume: BootVolume, isNeeded: Bool) -> BootRepairStep {
        BootRepairStep(
            CommonStep.addNVRAMEntry(
                label: loader.label, partition: volume.number, partitionGUID: volume.guid, path: loader.path,
                isNeeded: isNeeded),
            .changeNVRAM(
                .add(
                    label: loader.label, partition: volume.number, partitionGUID: volume.guid, path: loader.path,
                    isNeeded: isNeeded)))
    }

    static func putFirst(_ entry: NVRAMEntry) -> BootRepairStep {
        BootRepairStep(
            CommonStep.orderNVRAMEntry(number: entry.number, label: entry.label),
            .changeNVRAM(.putFirst(number: entry.number, label: entry.label)))
    }

    /// - Parameter partition: the partition that no disk here has.
    static func remove(_ entry: NVRAMEntry, of partition: GUID) -> BootRepairStep {
        BootRepairStep(
            CommonStep.removeNVRAMEntry(number: entry.number, label: entry.label, partitionGUID: partition),
            .changeNVRAM(.remove(number: entry.number, label: entry.label)))
    }
}
