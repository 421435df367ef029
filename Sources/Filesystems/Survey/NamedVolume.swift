// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A volume that is recognised and copied whole, because libblkid 2.38 does not name it, or gives it the name of a
/// mapped kind. Signatures and fields as in libblkid 2.41 (`libblkid/src/superblocks/`).
struct NamedVolume {
    /// libblkid's name (TYPE).
    let kindName: String
    /// Why it is copied whole, as a sentence part.
    let reason: String

    /// The description for display; never a kind that could be resized.
    func info(uuid: String? = nil, label: String? = nil) -> FilesystemInfo {
        FilesystemInfo(
            kind: .other, kindName: kindName, uuid: uuid, label: label, mapSource: .whole, wholeReason: reason)
    }

    /// The kind of a volume according to its signature; `nil` for other kinds.
    static func find(on volume: any BlockReader) throws(BlockIOError) -> NamedVolume? {
        guard volume.byteCount >= 8192 else { return nil }
        let start = try volume.readBytes(at: 0, count: 8192)
        if start.starts(with: tuxOnIce) {
            return NamedVolume(kindName: "swsuspend", reason: "it is swap that holds a hibernation image of TuxOnIce")
        }
        if isBcachefs(start) { return NamedVolume(kindName: "bcachefs", reason: "no map is made of bcachefs") }
        if (try? isFileVault(start)) == true {
            return NamedVolume(kindName: "cs_fvault2", reason: "it is encrypted (FileVault 2)")
        }
        return try swap(volume)
    }

    private static let tuxOnIce: [UInt8] = [0xED, 0xC3, 0x02, 0xE9, 0x98, 0x56, 0xE5, 0x0C]

    /// bcache.c: the magic at byte 24 of the superblock at 4096. Old versions have the magic of bcache, whose
    /// superblock in turn contains its own sector (8) instead of the second half of a checksum.
    private static func isBcachefs(_ start: [UInt8]) -> Bool {
        let magic = Array(start[4096 + 24..<4096 + 40])
        let own: [UInt8] = [
            0xC6, 0x85, 0x73, 0xF6, 0x66, 0xCE, 0x90, 0xA9, 0xD9, 0x6A, 0x60, 0xCF, 0x80, 0x3D, 0xF7, 0xEF,
        ]
        let old: [UInt8] = [
            0xC6, 0x85, 0x73, 0xF6, 0x4E, 0x1A, 0x45, 0xCA, 0x82, 0x65, 0xF5, 0x7F, 0x48, 0xBA, 0x6D, 0x81,
        ]
        let offset = (try? start.littleEndian(UInt64.self, at: 4096 + 8)) ?? 0
        return magic == own || magic == old && offset != 8
    }

    /// cs_fvault2.c: version, block type, signature, algorithm of the checksum, length of the key, cipher.
    private static func isFileVault(_ start: [UInt8]) throws(ParsingError) -> Bool {
        let (version, type) = (try start.littleEndian(UInt16.self, at: 8), try start.littleEndian(UInt16.self, at: 10))
        let (signature, checksum) = (try start.bytes(at: 88, count: 2), try start.littleEndian(UInt32.self, at: 90))
        let (length, cipher) = (
            try start.littleEndian(UInt32.self, at: 168), try start.littleEndian(UInt32.self, at: 172)
        )
        return version == 1 && type == 0x10 && signature == Array("CS".utf8) && checksum == 1 && length == 16
            && cipher == 2
    }

    /// swap.c: version 0, which has no header, and version 1 in the other byte order.
    private static func swap(_ volume: any BlockReader) throws(BlockIOError) -> NamedVolume? {
        for pageSize in SwapArea.pageSizes where UInt64(pageSize) <= volume.byteCount {
            let signature = try volume.readBytes(at: UInt64(pageSize - 10), count: 10)
            if signature == Array("SWAP-SPACE".utf8) {
                return NamedVolume(kindName: "swap", reason: "it is swap of version 0, which no kernel uses any more")
            }
            guard signature == Array("SWAPSPACE2".utf8) else { continue }
            let version = try volume.readBytes(at: 1024, count: 4)
            guard version == [0, 0, 0, 1] else { return nil }
            return NamedVolume(kindName: "swap", reason: "it is swap of a machine with the other byte order")
        }
        return nil
    }
}
