// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The boot sector of an NTFS (names of fields: NTFS_BOOT_SECTOR and BIOS_PARAMETER_BLOCK of ntfs-3g's layout.h).
struct NTFSBootSector {
    /// In bytes.
    let sectorSize: UInt64
    /// In bytes; a power of two up to 2 MiB.
    let clusterSize: UInt64
    /// In sectors; the copy of the boot sector behind them is not counted.
    let sectorCount: UInt64
    /// First clusters of $MFT and $MFTMirr.
    let mftCluster: UInt64
    let mirrorCluster: UInt64
    /// The length of a FILE record in bytes.
    let recordSize: UInt64
    let serialNumber: UInt64
    let hasEndMarker: Bool

    /// `nil` if the sector is no NTFS boot sector.
    init?(_ sector: [UInt8]) throws(ParsingError) {
        guard try sector.bytes(at: 3, count: 8) == Array("NTFS    ".utf8),  // oem_id
            // reserved_sectors, fats, root_entries, sectors; sectors_per_fat; large_sectors: FAT
            // has its own values there.
            try sector.bytes(at: 14, count: 7).allSatisfy({ $0 == 0 }),
            try sector.littleEndian(UInt16.self, at: 22) == 0,
            try sector.littleEndian(UInt32.self, at: 32) == 0
        else { return nil }
        let sectorSize = UInt64(try sector.littleEndian(UInt16.self, at: 11))  // bytes_per_sector
        guard (256...4096).contains(sectorSize), sectorSize.nonzeroBitCount == 1 else { return nil }
        let code = try sector.littleEndian(UInt8.self, at: 13)  // sectors_per_cluster
        // Above 128 it is the negative of a logarithm: clusters of more than 64 KiB.
        let sectorsPerCluster: UInt64 =
            switch code {
            case 1...128 where code.nonzeroBitCount == 1: UInt64(code)
            case 240...253: 1 << (256 - UInt64(code))
            default: 0
            }
        clusterSize = sectorsPerCluster * sectorSize
        guard clusterSize > 0, clusterSize <= 2 << 20 else { return nil }
        self.sectorSize = sectorSize
        sectorCount = try sector.littleEndian(at: 40)  // number_of_sectors
        mftCluster = try sector.littleEndian(at: 48)  // mft_lcn
        mirrorCluster = try sector.littleEndian(at: 56)  // mftmirr_lcn
        // clusters_per_mft_record: a number of clusters, or where negative, a logarithm of bytes.
        let recordCode = try sector.littleEndian(Int8.self, at: 64)
        recordSize = recordCode > 0 ? UInt64(recordCode) * clusterSize : 1 << min(63, UInt64(-Int(recordCode)))
        serialNumber = try sector.littleEndian(at: 72)  // volume_serial_number
        hasEndMarker = try sector.littleEndian(UInt16.self, at: 510) == 0xAA55  // end_of_sector_marker
    }

    /// Whole clusters; up to a cluster minus one sector may follow them.
    var clusterCount: UInt64 { sectorCount / (clusterSize / sectorSize) }

    /// The end of the filesystem in bytes. Valid only if `problem` returned `nil`.
    var byteCount: UInt64 { sectorCount * sectorSize }

    /// The end of the clusters in bytes. Valid only if `problem` returned `nil`.
    var clusterEnd: UInt64 { clusterCount * clusterSize }

    /// Why it cannot be used, as a sentence part.
    func problem(volumeByteCount: UInt64) -> String? {
        if !hasEndMarker { return "its boot sector has no end marker" }
        // Checked before any multiplication.
        if sectorCount > volumeByteCount / sectorSize { return "it is larger than its partition" }
        // "The maximum number of clusters is 2^32 - 1", as Windows implements it.
        guard clusterCount > 0, clusterCount < 1 << 32 else { return "its number of clusters is not valid" }
        guard (512...65536).contains(recordSize), recordSize.nonzeroBitCount == 1 else {
            return "the size of its file records is not valid"
        }
        for cluster in [mftCluster, mirrorCluster] {
            // Records of several clusters, and four of them.
            guard cluster > 0, cluster < clusterCount, recordSize * 4 <= clusterEnd - cluster * clusterSize else {
                return "the place of its master file table is not valid"
            }
        }
        return mftCluster == mirrorCluster ? "its master file table and the copy of it are one" : nil
    }
}
