// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A volume encrypted by BitLocker: recognised, and copied whole, as ciphertext. Offsets are those of the "BitLocker
/// Drive Encryption (BDE) format" of libbde.
enum BitLockerVolume {
    static let format = FilesystemFormat(kindNames: ["BitLocker"], survey: survey)

    /// The signature at the start of the volume header and of each metadata block.
    private static let signature = Array("-FVE-FS-".utf8)

    static func survey(_ volume: any BlockReader) throws(BlockIOError) -> VolumeContents? {
        guard try isEncrypted(volume) else { return nil }
        let info = FilesystemInfo(
            kind: .other, kindName: "BitLocker", mapSource: .whole,
            wholeReason: "it is encrypted by BitLocker, and so copied whole",
            remarks: ["is encrypted, and so copied whole"])
        return (info, .whole(byteCount: volume.byteCount))
    }

    /// Whether it is a BitLocker volume: with the header of Windows Vista, that of Windows 7 and later, or that of a
    /// removable disk ("To Go"), which other readers take for a FAT32.
    static func isEncrypted(_ volume: any BlockReader) throws(BlockIOError) -> Bool {
        guard volume.byteCount >= 512 else { return false }
        let sector = try volume.readBytes(at: 0, count: 512)
        let place: Int
        switch (Array(sector[..<3]), Array(sector[3..<11])) {
        case ([0xEB, 0x52, 0x90], signature): return true
        case ([0xEB, 0x58, 0x90], signature): place = 176
        case ([0xEB, 0x58, 0x90], Array("MSWIN4.1".utf8)): place = 440
        default: return false
        }
        // The place of the first metadata block.
        guard let metadata = try? sector.littleEndian(UInt64.self, at: place), metadata > 0,
            metadata <= volume.byteCount - 8
        else { return false }
        return try volume.readBytes(at: metadata, count: 8) == signature
    }
}
