// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The field of a FAT or NTFS boot sector with the number of sectors before the partition. BIOS boot code relies on it,
/// so it must follow a partition that moves.
enum HiddenSectors {
    /// Microsoft FAT specification 1.03, §3.1: BPB_HiddSec; NTFS has the same field at the same place.
    private static let field = 0x1C

    /// The offsets of a volume's boot sector and its backup, in bytes.
    static func bootSectors(_ first: [UInt8], _ filesystem: FilesystemInfo, volumeByteCount: UInt64) -> [UInt64] {
        guard first.count >= 512, let bytesPerSector: UInt16 = try? first.littleEndian(at: 11), bytesPerSector >= 512
        else { return [] }
        var places: [UInt64] = [0]
        switch filesystem.traits.bootSectors {
        case .firstAndNamed:
            // 0 and 0xFFFF mean no backup.
            if let sector: UInt16 = try? first.littleEndian(at: 50), sector != 0, sector != .max {
                places.append(UInt64(sector) * UInt64(bytesPerSector))
            }
        case .first: break
        case .firstAndBehindLast:
            if let sectors: UInt64 = try? first.littleEndian(at: 40),
                case let (place, overflow) = sectors.multipliedReportingOverflow(by: UInt64(bytesPerSector)), !overflow
            {
                places.append(place)
            }
        case nil: return []
        }
        return places.filter { volumeByteCount >= 512 && $0 <= volumeByteCount - 512 }
    }

    /// The boot sector of a moved partition with the field corrected; `nil` if the field did not name the old place (a
    /// logical partition counts from its boot record, many tools write 0): then it stays.
    /// - Parameters:
    ///   - from: the old offset of the partition, in bytes; the field counts sectors of `sectorSize` bytes.
    ///   - to: the new offset, in bytes; the new field counts sectors of `newSectorSize` bytes.
    static func moved(
        _ sector: [UInt8], from: UInt64, to: UInt64, sectorSize: Int, newSectorSize: Int? = nil
    ) -> [UInt8]? {
        let unit = UInt64(max(1, sectorSize))
        guard sector.count >= 512, let signature: UInt16 = try? sector.littleEndian(at: 510), signature == 0xAA55,
            let old: UInt32 = try? sector.littleEndian(at: field), UInt64(old) == from / unit,
            let new = UInt32(exactly: to / UInt64(max(1, newSectorSize ?? sectorSize)))
        else { return nil }
        var result = sector
        result.setLittleEndian(new, at: field)
        return result
    }
}
