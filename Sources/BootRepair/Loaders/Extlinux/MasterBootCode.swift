// SPDX-License-Identifier: GPL-3.0-or-later

/// The kind of boot code in block 0, as far as it matters for a loader in a partition (SYSLINUX, mbr/).
package enum MasterBootCode: String, Codable, Equatable, Sendable {
    /// All zeros: the disk does not start by BIOS.
    case none
    /// mbr.bin, or other code that starts the active partition of an MBR.
    case activePartition = "active-partition"
    /// gptmbr.bin: it starts the partition of a GPT with the attribute "legacy BIOS bootable".
    case gptAttribute = "gpt-attribute"
    /// GRUB's.
    case grub
    case other

    /// The length of the code in bytes; the disk signature follows.
    static let byteCount = 440

    /// - Parameter sector: the first 512 bytes of the disk.
    init(_ sector: [UInt8]) {
        let code = sector.prefix(Self.byteCount)
        func holds(_ text: String) -> Bool { code.contains(Array(text.utf8)) }
        if code.allSatisfy({ $0 == 0 }) {
            self = .none
        } else if GrubBootSector(sector)?.kind == .grub {
            self = .grub
        } else if holds("Missing OS\r\n") {
            self = .gptAttribute
        } else if holds("Missing operating system") {
            self = .activePartition
        } else {
            self = .other
        }
    }
}
