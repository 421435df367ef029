// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The bytes to change for a new identifier of formats whose identifier has no checksum. Other copies come first: a
/// power cut in between leaves the identifier that the first copy shows.
package enum SerialPatches {
    /// Why a volume cannot be changed, as a sentence part.
    package struct Misfit: Error, Equatable, Sendable {
        package let reason: String
    }

    /// The patches of a volume.
    /// - Parameters:
    ///   - kind: `swap`, a FAT, or `ntfs`.
    ///   - new: the identifier as `blkid` shows it.
    package static func patches(
        for kind: FilesystemInfo.Kind, on volume: any BlockReader, to new: String
    ) throws -> [BytePatch] {
        switch kind {
        case .swap: try swap(volume, new)
        case .fat12, .fat16, .fat32: try fat(volume, new)
        case .ntfs: try ntfs(volume, new)
        default: throw Misfit(reason: "its format has no identifier that can be patched")
        }
    }

    /// linux/swap.h, `union swap_header`: `sws_uuid` at 12 of the information at 1024; the magic ends the first page.
    private static func swap(_ volume: any BlockReader, _ new: String) throws -> [BytePatch] {
        guard let uuid = GUID(new) else { throw Misfit(reason: "\(new) is no UUID") }
        for pageSize in [4096, 65536, 16384, 8192, 32768] as [UInt64] where pageSize <= volume.byteCount {
            let magic = try volume.readBytes(at: pageSize - 10, count: 10)
            if magic == Array("SWAPSPACE2".utf8) {
                return [
                    BytePatch(
                        offset: 1036, from: try volume.readBytes(at: 1036, count: 16), to: uuid.textOrderBytes)
                ]
            }
        }
        throw Misfit(reason: "it holds a hibernated system, or no swap")
    }

    /// Microsoft's FAT specification 1.03: BPB_FATSz16 at 22, BPB_BytsPerSec at 11; BS_BootSig and BS_VolID at 38 and 39
    /// (FAT12, FAT16) or at 66 and 67 (FAT32), whose BPB_BkBootSec at 50 is the sector of a copy.
    private static func fat(_ volume: any BlockReader, _ new: String) throws -> [BytePatch] {
        let digits = new.filter { $0 != "-" }
        guard digits.utf8.count == 8, let serial = UInt32(digits, radix: 16) else {
            throw Misfit(reason: "\(new) is no volume id")
        }
        var bytes: [UInt8] = []
        bytes.appendLittleEndian(serial)
        let boot = try volume.readBytes(at: 0, count: 512)
        let isLarge = try boot.littleEndian(at: 22) as UInt16 == 0
        let signature = isLarge ? 66 : 38
        guard [0x28, 0x29].contains(boot[signature]) else { throw Misfit(reason: "it has no volume id") }
        let old = Array(boot[signature + 1..<signature + 5])
        var patches = [BytePatch(offset: UInt64(signature + 1), from: old, to: bytes)]
        let copy: UInt16 = try boot.littleEndian(at: 50)
        let sector = UInt64(try boot.littleEndian(at: 11) as UInt16)
        if isLarge, copy > 0, copy < 0xFFFF, sector >= 512 {
            let start = UInt64(copy) * sector
            if start + 512 <= volume.byteCount {
                let backup = try volume.readBytes(at: start, count: 512)
                if backup[signature] == boot[signature], Array(backup[signature + 1..<signature + 5]) == old {
                    patches.insert(BytePatch(offset: start + UInt64(signature + 1), from: old, to: bytes), at: 0)
                }
            }
        }
        return patches
    }

    /// NTFS boot sector: bytes a sector at 0x0B, total sectors at 0x28, serial number at 0x48 (8 bytes). The copy of the
    /// boot sector is the sector after the last one that counts.
    private static func ntfs(_ volume: any BlockReader, _ new: String) throws -> [BytePatch] {
        guard new.utf8.count == 16, let serial = UInt64(new, radix: 16) else {
            throw Misfit(reason: "\(new) is no serial number")
        }
        var bytes: [UInt8] = []
        bytes.appendLittleEndian(serial)
        let boot = try volume.readBytes(at: 0, count: 512)
        guard Array(boot[3..<11]) == Array("NTFS    ".utf8) else { throw Misfit(reason: "it is not NTFS") }
        let old = Array(boot[0x48..<0x50])
        var patches = [BytePatch(offset: 0x48, from: old, to: bytes)]
        let sector = UInt64(try boot.littleEndian(at: 0x0B) as UInt16)
        let (start, overflow) = (try boot.littleEndian(at: 0x28) as UInt64).multipliedReportingOverflow(by: sector)
        if !overflow, sector >= 512, volume.byteCount >= 512, start <= volume.byteCount - 512 {
            let backup = try volume.readBytes(at: start, count: 512)
            if Array(backup[3..<11]) == Array("NTFS    ".utf8), Array(backup[0x48..<0x50]) == old {
                patches.insert(BytePatch(offset: start + 0x48, from: old, to: bytes), at: 0)
            }
        }
        return patches
    }
}
