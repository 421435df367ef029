// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// The firmware of the running machine.
package enum Firmware: String, Codable, Sendable, CustomStringConvertible {
    /// Legacy BIOS, or UEFI's compatibility support module: the code in block 0 runs.
    case bios
    /// UEFI: a file of the EFI system partition runs.
    case uefi

    /// The firmware that started the running kernel.
    package static var current: Firmware { Files.exists("/sys/firmware/efi") ? .uefi : .bios }

    /// The name for the user.
    package var description: String {
        switch self {
        case .bios: "BIOS"
        case .uefi: "UEFI"
        }
    }
}
