// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// What starts the machine that we run on.
package enum Firmware: String, Codable, Sendable, CustomStringConvertible {
    /// Legacy BIOS, or UEFI's compatibility support module: block 0 is what runs.
    case bios
    /// UEFI: a file of the EFI system partition is what runs.
    case uefi

    /// How the running kernel was started.
    package static var current: Firmware { Files.exists("/sys/firmware/efi") ? .uefi : .bios }

    /// The name that people use.
    package var description: String {
        switch self {
        case .bios: "BIOS"
        case .uefi: "UEFI"
        }
    }
}
