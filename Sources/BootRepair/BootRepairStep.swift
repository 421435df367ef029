// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// One thing that boot repair changes.
package enum BootRepairStep: Codable, Equatable, Sendable, CustomStringConvertible {
    /// First fields of /etc/fstab are replaced; everything else of it stays.
    case fixFstab(changes: [FstabChange])
    /// The installed system's own grub-install, confined. `again`: the loader that is there would do too.
    /// `otherwise`: what our own hand does where that fails.
    case runGrubInstall(platform: String, command: [String], again: Bool, otherwise: BIOSBootWrite?)
    /// The installed system's own update-grub, confined; the old grub.cfg comes back where the new one is worse.
    case updateGrub(command: [String])
    /// Boot code and block lists, by our own hand.
    case writeBIOSBoot(BIOSBootWrite)
    /// Files of the EFI system partition are copied to `\EFI\BOOT`. `from` is the folder of the loader, as a path with
    /// backslashes, `loader` the file in it that becomes BOOTX64.EFI.
    case makeFallback(from: String, loader: String, replacing: Bool)
    /// An entry of the firmware's NVRAM, first in its order. `isNeeded`: the machine does not start this disk without it.
    case addNVRAMEntry(label: String, partition: Int, partitionGUID: GUID, path: String, isNeeded: Bool)
    /// An entry that is there comes into the firmware's order, first.
    case orderNVRAMEntry(number: String, label: String)
    /// An entry of the same name and file that points to a partition which no attached disk has.
    case removeNVRAMEntry(number: String, label: String, partitionGUID: GUID)

    /// A line for a person.
    package var description: String {
        switch self {
        case .fixFstab(let changes):
            "rewrite /etc/fstab (\(changes.map(\.description).joined(separator: "; ")))"
        case .runGrubInstall(_, let command, let again, let otherwise):
            "run the installed system's `\(command.joined(separator: " "))`"
                + (again ? " (the loader in place is in order; its own tool makes it fit its files)" : "")
                + (otherwise.map { "; if that fails: \(Self.describe($0))" } ?? "")
        case .updateGrub(let command): "run the installed system's `\(command.joined(separator: " "))`"
        case .writeBIOSBoot(let write): Self.describe(write)
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

    private static func describe(_ write: BIOSBootWrite) -> String {
        let place = "sector \(write.coreSector)" + (write.partition.map { " (partition \($0))" } ?? "")
        let core =
            switch write.core {
            case .onDisk: "set the block list of core.img at \(place)"
            case .file(let path): "write \(path) to \(place)"
            case .made: "make a core.img with grub-mkimage and write it to \(place)"
            }
        return core + (write.bootImage == .kept ? "" : ", write GRUB's boot code to block 0")
            + ", and point the boot code to it"
    }
}
