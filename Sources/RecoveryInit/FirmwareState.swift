// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// What the machine's firmware is, and whether it enforces signatures.
enum FirmwareState: String {
    case bios = "BIOS"
    case uefi = "UEFI"
    case secureBoot = "UEFI, Secure Boot on"

    /// The present machine's.
    static func current(_ folder: FilePath = "/sys/firmware/efi") -> FirmwareState {
        guard Files.exists(folder) else { return .bios }
        // Four bytes of attributes, then the value (UEFI specification 2.10, section 3.3, SecureBoot).
        let variable = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
        let bytes = (try? Files.read(folder.appending("efivars").appending(variable), limit: 16)) ?? []
        return bytes.count == 5 && bytes[4] == 1 ? .secureBoot : .uefi
    }
}
