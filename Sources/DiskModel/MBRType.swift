// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The type bytes of an MBR's entries that are relevant to planning, boot repair and display.
package enum MBRType {
    private static let known: [UInt8: (name: String, equivalent: String?)] = [
        0x01: ("FAT12", PartitionType.microsoftBasicData), 0x04: ("FAT16 <32M", PartitionType.microsoftBasicData),
        0x05: ("Extended", nil), 0x06: ("FAT16", PartitionType.microsoftBasicData),
        0x07: ("NTFS/exFAT", PartitionType.microsoftBasicData), 0x0B: ("FAT32", PartitionType.microsoftBasicData),
        0x0C: ("FAT32 (LBA)", PartitionType.microsoftBasicData),
        0x0E: ("FAT16 (LBA)", PartitionType.microsoftBasicData), 0x0F: ("Extended (LBA)", nil),
        0x27: ("Windows recovery", PartitionType.windowsRecovery), 0x82: ("Linux swap", PartitionType.linuxSwap),
        0x83: ("Linux", PartitionType.linuxFilesystem), 0x85: ("Linux extended", nil),
        0x8E: ("Linux LVM", PartitionType.linuxLVM), 0xA5: ("FreeBSD", nil), 0xA6: ("OpenBSD", nil),
        0xA9: ("NetBSD", nil), 0xAF: ("HFS", nil), 0xDE: ("Dell utility", nil),
        0xEA: ("Extended boot", PartitionType.extendedBoot), 0xEF: ("EFI system", PartitionType.efiSystem),
        0xFD: ("Linux RAID", PartitionType.linuxRAID),
    ]

    /// The equivalent GPT type; zero if there is none.
    package static func equivalent(of type: UInt8) -> GUID { known[type]?.equivalent.flatMap(GUID.init) ?? .zero }

    /// A short name for display; the number where the type is unknown.
    package static func name(of type: UInt8) -> String {
        if let name = known[type]?.name { return name }
        let digits = String(type, radix: 16)
        return "type 0x\(digits.count == 1 ? "0" : "")\(digits)"
    }
}
