// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The boot sector of a FAT (Microsoft, "FAT: General Overview of On-Disk Format" 1.03, "Boot Sector and BPB"), with
/// the detection rules of libblkid and the Linux kernel.
struct FATBootSector {
    /// 12, 16 or 32 bits per entry.
    let entryBits: Int
    let sectorSize: UInt64
    let sectorsPerCluster: UInt64
    let reservedSectorCount: UInt64
    let fatCount: UInt64
    let rootEntryCount: UInt64
    let sectorCount: UInt64
    let sectorsPerFAT: UInt64
    let media: UInt8
    /// FAT32: the first cluster of the root folder.
    let rootCluster: UInt32
    /// FAT32: the only active FAT where mirroring is off.
    let activeFAT: UInt64?
    let serialNumber: UInt32?
    let label: [UInt8]?
    /// Bit 0 of the byte in which Linux (and Windows NT before) marks it as mounted.
    let isMarkedInUse: Bool
    let clusterCount: UInt64

    /// `nil` if the sector is no FAT boot sector.
    init?(_ sector: [UInt8]) throws(ParsingError) {
        guard try sector.littleEndian(UInt16.self, at: 510) == 0xAA55 else { return nil }
        let oemName = try sector.bytes(at: 3, count: 8)  // BS_OEMName
        // Pseudo boot sectors of other formats: libblkid excludes the same ones.
        guard !["-FVE-FS-", "NTFS    ", "EXFAT   "].contains(where: { Array($0.utf8) == oemName }) else { return nil }
        let kindText = try sector.bytes(at: 54, count: 8)  // BS_FilSysType
        guard !["JFS     ", "HPFS    "].contains(where: { Array($0.utf8) == kindText }) else { return nil }

        sectorSize = UInt64(try sector.littleEndian(UInt16.self, at: 11))  // BPB_BytsPerSec
        sectorsPerCluster = UInt64(try sector.littleEndian(UInt8.self, at: 13))  // BPB_SecPerClus
        reservedSectorCount = UInt64(try sector.littleEndian(UInt16.self, at: 14))  // BPB_RsvdSecCnt
        fatCount = UInt64(try sector.littleEndian(UInt8.self, at: 16))  // BPB_NumFATs
        rootEntryCount = UInt64(try sector.littleEndian(UInt16.self, at: 17))  // BPB_RootEntCnt
        let sectorCount16 = UInt64(try sector.littleEndian(UInt16.self, at: 19))  // BPB_TotSec16
        media = try sector.littleEndian(at: 21)  // BPB_Media
        let fatSize16 = UInt64(try sector.littleEndian(UInt16.self, at: 22))  // BPB_FATSz16
        let sectorCount32 = UInt64(try sector.littleEndian(UInt32.self, at: 32))  // BPB_TotSec32
        let fatSize32 = UInt64(try sector.littleEndian(UInt32.self, at: 36))  // BPB_FATSz32
        sectorCount = sectorCount16 != 0 ? sectorCount16 : sectorCount32
        sectorsPerFAT = fatSize16 != 0 ? fatSize16 : fatSize32
        guard sectorSize >= 512, sectorSize <= 4096, sectorSize & (sectorSize - 1) == 0,
            sectorsPerCluster > 0, sectorsPerCluster & (sectorsPerCluster - 1) == 0,
            reservedSectorCount > 0, fatCount > 0, sectorsPerFAT > 0, media >= 0xF8 || media == 0xF0
        else { return nil }
        // All below 2^42: no overflow.
        let rootSectors = (rootEntryCount * 32 + sectorSize - 1) / sectorSize
        let overhead = reservedSectorCount + fatCount * sectorsPerFAT + rootSectors
        guard sectorCount > overhead else { return nil }
        clusterCount = (sectorCount - overhead) / sectorsPerCluster

        // The specification (and mtools) uses only the count of clusters; Linux and EDK2 take a FAT without
        // BPB_FATSz16 for FAT32 however small it is, and `mkfs.fat -F 32` makes such ones for EFI system partitions.
        let isFAT32 = fatSize16 == 0
        entryBits = isFAT32 ? 32 : clusterCount < 4085 ? 12 : 16
        guard clusterCount <= (isFAT32 ? 0x0FFF_FFF4 : 0xFFF4) else { return nil }
        rootCluster = isFAT32 ? try sector.littleEndian(at: 44) : 0  // BPB_RootClus
        let extendedFlags: UInt16 = isFAT32 ? try sector.littleEndian(at: 40) : 0  // BPB_ExtFlags
        activeFAT = extendedFlags & 0x80 != 0 ? UInt64(extendedFlags & 0xF) : nil
        let extended = isFAT32 ? 64 : 36  // BS_DrvNum, BS_Reserved1, BS_BootSig, BS_VolID, BS_VolLab
        isMarkedInUse = try sector.littleEndian(UInt8.self, at: extended + 1) & 1 != 0
        let signature = try sector.littleEndian(UInt8.self, at: extended + 2)
        serialNumber = signature == 0x29 || signature == 0x28 ? try sector.littleEndian(at: extended + 3) : nil
        label = signature == 0x29 ? try sector.bytes(at: extended + 7, count: 11) : nil
    }

    var kind: FilesystemInfo.Kind { entryBits == 12 ? .fat12 : entryBits == 16 ? .fat16 : .fat32 }
    /// In bytes, all of them below 2^55.
    var byteCount: UInt64 { sectorCount * sectorSize }
    var clusterSize: UInt64 { sectorsPerCluster * sectorSize }
    var fatByteCount: UInt64 { sectorsPerFAT * sectorSize }
    var rootFolderOffset: UInt64 { (reservedSectorCount + fatCount * sectorsPerFAT) * sectorSize }
    var rootFolderByteCount: UInt64 { rootEntryCount * 32 }
    var dataOffset: UInt64 {
        rootFolderOffset + (rootFolderByteCount + sectorSize - 1) / sectorSize * sectorSize
    }
    /// Clusters count from 2 ("FAT Data Structure"), so this is the first invalid number.
    var clusterEnd: UInt64 { clusterCount + 2 }
    func offset(ofFAT index: UInt64) -> UInt64 { reservedSectorCount * sectorSize + index * fatByteCount }
    /// The offset of a cluster between 2 and `clusterEnd`.
    func offset(ofCluster cluster: UInt64) -> UInt64 { dataOffset + (cluster - 2) * clusterSize }

    /// Why it cannot be used, as a sentence part.
    func problem(volumeByteCount: UInt64) -> String? {
        if byteCount > volumeByteCount { return "it is larger than its partition" }
        if clusterCount == 0 { return "it has no room for files" }
        if (clusterEnd * UInt64(entryBits) + 7) / 8 > fatByteCount { return "its FAT is too short for its clusters" }
        if let activeFAT, activeFAT >= fatCount { return "its active FAT does not exist" }
        if entryBits == 32 {
            if rootEntryCount != 0 { return "it has root folders of two kinds" }
            if UInt64(rootCluster) < 2 || UInt64(rootCluster) >= clusterEnd { return "its root folder lies outside it" }
        }
        return nil
    }
}
