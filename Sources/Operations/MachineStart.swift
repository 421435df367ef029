// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import Emulator
import ImageModel
import SystemPackage

/// How a virtual machine starts from an exported disk.
package struct MachineStart: Encodable, Equatable {
    package enum Firmware: String, Encodable {
        case uefi, bios
        /// The disk has loaders for both.
        case either
        /// No loader was found.
        case unknown
    }

    package var firmware: Firmware
    /// The command for QEMU, for a shell; `nil` for machines of another architecture.
    package var command: String?
    /// How the hypervisor's machine is made; `nil` without one.
    package var advice: String?

    /// - Parameters:
    ///   - sectorSize: the logical sector size of the new disk.
    ///   - hypervisor: that of `--for`.
    package init(
        _ manifest: Manifest, _ format: ExportFormat, _ output: FilePath, sectorSize: Int,
        for hypervisor: Hypervisor? = nil
    ) {
        firmware = Self.firmware(manifest)
        if let hypervisor {
            advice = hypervisor.advice(
                Hypervisor.firmware(firmware, manifest), ShellText.quoted(output.string))
            guard hypervisor == .kvm else { return }
        }
        guard ["x86_64", "unknown", ""].contains(manifest.machine.architecture) else { return }
        var words = ["qemu-system-x86_64", "-m", "2G"]
        if firmware == .uefi { words += ["-machine", "q35", "-bios", "/usr/share/ovmf/OVMF.fd"] }
        // A name before a colon would be that of a protocol.
        let plain = output.string.contains(":") ? QemuText.plainPath(output) : output.string
        // A comma ends a value of QEMU's options; a doubled one is a comma.
        let file = plain.replacing(",", with: ",,")
        if sectorSize == 512 {
            words += ["-drive", "file=\(file),format=\(format.driver)\(hypervisor == nil ? "" : ",if=virtio")"]
        } else {
            words += [
                "-drive", "file=\(file),format=\(format.driver),if=none,id=disk", "-device",
                "virtio-blk-pci,drive=disk,logical_block_size=\(sectorSize),physical_block_size=\(sectorSize)",
            ]
        }
        command = words.map(ShellText.quoted).joined(separator: " ")
    }

    /// By the loaders on the disk; where it has both kinds, by the firmware of the captured machine.
    private static func firmware(_ manifest: Manifest) -> Firmware {
        switch (manifest.boot.efiLoaders.isEmpty, manifest.boot.biosBootCode == nil) {
        case (false, true): .uefi
        case (true, false): .bios
        case (false, false): ["uefi": .uefi, "bios": .bios][manifest.machine.firmware] ?? .either
        case (true, true): .unknown
        }
    }

    /// A sentence on the firmware.
    package var firmwareText: String {
        switch firmware {
        case .uefi: "it starts with UEFI firmware (Debian package ovmf)"
        case .bios: "it starts with BIOS firmware"
        case .either: "it starts with UEFI or BIOS firmware"
        case .unknown: "no boot loader was found on it: it may start nothing"
        }
    }
}

/// Text for a shell that a person pastes.
enum ShellText {
    /// One word of a command line.
    static func quoted(_ word: String) -> String {
        let isPlain =
            !word.isEmpty
            && word.unicodeScalars.allSatisfy { scalar in
                scalar.isASCII
                    && (scalar.properties.isAlphabetic || "0123456789/._-=,:+@%".unicodeScalars.contains(scalar))
            }
        return isPlain ? word : "'" + word.replacing("'", with: #"'\''"#) + "'"
    }
}
