// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// GRUB's boot.img: the 440 bytes of code at the start of block 0 (grub 2.06, grub-core/boot/i386/pc/boot.S and
/// include/grub/i386/pc/boot.h).
package struct GrubBootSector: Equatable, Sendable {
    /// The length of the code; the disk signature and the MBR's table follow.
    private static let codeByteCount = 440
    /// Texts in the code (boot.S).
    private static let marks = ["GRUB", "Geom", "Hard Disk"]
    /// GRUB_BOOT_MACHINE_BPB_START ..< BPB_END: space for a FAT's parameters, which grub-install does not change.
    private static let parameterBlock = 0x3..<0x5A
    /// GRUB_BOOT_MACHINE_KERNEL_SECTOR: the start of core.img, in sectors of 512 bytes, 64 bits.
    private static let coreSectorOffset = 0x5C
    /// GRUB_BOOT_MACHINE_BOOT_DRIVE: 0xFF is the drive started by the firmware.
    private static let bootDriveOffset = 0x64
    /// GRUB_BOOT_MACHINE_DRIVE_CHECK: two NOPs for disks, as grub-install writes them without `--allow-floppy`.
    private static let driveCheckOffset = 0x66

    /// The kind of code in a block 0.
    package enum Kind: String, Codable, Sendable {
        /// All zeros: the disk does not start by BIOS.
        case none
        /// GRUB's boot.img.
        case grub
        /// Other code.
        case other
    }

    /// The 512 bytes.
    package let bytes: [UInt8]

    /// From the first 512 bytes of a disk, or from a boot.img; `nil` if there are fewer.
    package init?(_ bytes: [UInt8]) {
        guard bytes.count >= 512 else { return nil }
        self.bytes = Array(bytes.prefix(512))
    }

    /// The kind of code.
    package var kind: Kind {
        let code = bytes.prefix(Self.codeByteCount)
        if code.allSatisfy({ $0 == 0 }) { return .none }
        return Self.marks.allSatisfy { code.contains(Array($0.utf8)) } ? .grub : .other
    }

    /// The sector of 512 bytes at which the code expects core.img; `nil` if it is not GRUB's.
    package var coreSector: UInt64? {
        kind == .grub ? try? bytes.littleEndian(at: Self.coreSectorOffset) : nil
    }

    /// The existing code, pointed to core.img at `sector`.
    static func run(lookingForCoreAt sector: UInt64) -> SectorRun {
        SectorRun(
            sector: 0, endSector: 1, source: .present(sectorCount: 1), patches: [place(ofCoreAt: sector)],
            unsuitable: foreign, tooLong: foreign)
    }

    /// Block 0 with the code of a boot.img, as by grub-install: the table, the signature and the parameter block are
    /// kept.
    static func run(from file: SectorRun.Source, lookingForCoreAt sector: UInt64) -> SectorRun {
        SectorRun(
            sector: 0, endSector: 1, source: file,
            requirement: SectorRun.Requirement(byteCounts: 512...512, texts: marks, within: codeByteCount),
            kept: [parameterBlock, codeByteCount..<512],
            patches: [
                place(ofCoreAt: sector), SectorRun.Patch(at: bootDriveOffset, .bytes([0xFF])),
                SectorRun.Patch(at: driveCheckOffset, .bytes([0x90, 0x90])),
            ], unsuitable: foreign, tooLong: foreign)
    }

    private static let foreign = "the boot.img for block 0 is not GRUB's"

    private static func place(ofCoreAt sector: UInt64) -> SectorRun.Patch {
        var bytes: [UInt8] = []
        bytes.appendLittleEndian(sector)
        return SectorRun.Patch(at: coreSectorOffset, .bytes(bytes))
    }
}
