// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The reserved sectors of a new FAT: boot sector, and for FAT32 FSInfo and the backups of both (Microsoft, "FAT: General
/// Overview of On-Disk Format" 1.03).
struct FATFront {
    let layout: FATLayout
    /// BS_OEMName, 8 bytes.
    var name: [UInt8]
    /// BS_VolID; `nil` for none.
    var serialNumber: UInt32?
    /// BS_VolLab, 11 bytes.
    var label: [UInt8]
    /// The number of sectors before its partition.
    var hiddenSectors: UInt32
    /// The first cluster of the root folder of a FAT32.
    var rootCluster: UInt32
    /// The lowest cluster that is free, as are all behind it.
    var nextCluster: UInt64

    /// The bytes of the reserved sectors.
    func bytes() -> [UInt8] {
        let sector = Int(layout.sectorSize)
        let boot = bootSector()
        var area = boot + [UInt8](repeating: 0, count: Int(layout.reservedSectorCount) * sector - boot.count)
        guard layout.kind == .fat32 else { return area }
        var info = [UInt8](repeating: 0, count: 512)
        info.setLittleEndian(0x4161_5252 as UInt32, at: 0)  // FSI_LeadSig
        info.setLittleEndian(0x6141_7272 as UInt32, at: 484)  // FSI_StrucSig
        info.setLittleEndian(UInt32(clamping: layout.clusterCount + 2 - nextCluster), at: 488)  // FSI_Free_Count
        info.setLittleEndian(UInt32(clamping: nextCluster), at: 492)  // FSI_Nxt_Free
        info.setLittleEndian(0xAA55_0000 as UInt32, at: 508)  // FSI_TrailSig
        area.replaceSubrange(sector..<sector + 512, with: info)
        area.replaceSubrange(6 * sector..<6 * sector + 512, with: boot)
        area.replaceSubrange(7 * sector..<7 * sector + 512, with: info)
        return area
    }

    private func bootSector() -> [UInt8] {
        let isFAT32 = layout.kind == .fat32
        // Boot code for BIOS that prints nothing and returns (int 18h).
        var boot = [UInt8](repeating: 0, count: 512)
        let extended = isFAT32 ? 64 : 36
        boot.replaceSubrange(0..<3, with: [0xEB, UInt8(extended + 26 - 2), 0x90])
        boot.replaceSubrange(3..<11, with: padded(name, to: 8))  // BS_OEMName
        boot.setLittleEndian(UInt16(layout.sectorSize), at: 11)  // BPB_BytsPerSec
        boot[13] = UInt8(layout.sectorsPerCluster)  // BPB_SecPerClus
        boot.setLittleEndian(UInt16(layout.reservedSectorCount), at: 14)  // BPB_RsvdSecCnt
        boot[16] = 2  // BPB_NumFATs
        boot.setLittleEndian(UInt16(layout.rootEntryCount), at: 17)  // BPB_RootEntCnt
        let isSmall = !isFAT32 && layout.sectorCount <= UInt64(UInt16.max)
        boot.setLittleEndian(isSmall ? UInt16(layout.sectorCount) : 0, at: 19)  // BPB_TotSec16
        boot[21] = 0xF8  // BPB_Media: fixed
        boot.setLittleEndian(isFAT32 ? 0 : UInt16(layout.sectorsPerFAT), at: 22)  // BPB_FATSz16
        boot.setLittleEndian(UInt16(63), at: 24)  // BPB_SecPerTrk
        boot.setLittleEndian(UInt16(255), at: 26)  // BPB_NumHeads
        boot.setLittleEndian(hiddenSectors, at: 28)  // BPB_HiddSec
        boot.setLittleEndian(isSmall ? 0 : UInt32(layout.sectorCount), at: 32)  // BPB_TotSec32
        if isFAT32 {
            boot.setLittleEndian(UInt32(layout.sectorsPerFAT), at: 36)  // BPB_FATSz32
            boot.setLittleEndian(rootCluster, at: 44)  // BPB_RootClus
            boot.setLittleEndian(UInt16(1), at: 48)  // BPB_FSInfo
            boot.setLittleEndian(UInt16(6), at: 50)  // BPB_BkBootSec
        }
        boot[extended] = 0x80  // BS_DrvNum
        if let serialNumber {
            boot[extended + 2] = 0x29  // BS_BootSig
            boot.setLittleEndian(serialNumber, at: extended + 3)  // BS_VolID
        }
        boot.replaceSubrange(extended + 7..<extended + 18, with: padded(label, to: 11))  // BS_VolLab
        let kind = "FAT\(layout.entryBits)   "
        boot.replaceSubrange(extended + 18..<extended + 26, with: Array(kind.utf8))  // BS_FilSysType
        boot.replaceSubrange(extended + 26..<extended + 30, with: [0xCD, 0x18, 0xEB, 0xFE])
        boot.setLittleEndian(UInt16(0xAA55), at: 510)
        return boot
    }

    private func padded(_ text: [UInt8], to count: Int) -> [UInt8] {
        Array(text.prefix(count)) + [UInt8](repeating: 0x20, count: max(0, count - text.count))
    }
}
