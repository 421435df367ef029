// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// A file or folder of a FAT.
package struct FATEntry: Equatable, Sendable {
    /// The long name if there is one, else the short one.
    package let name: String
    /// The 8.3 name.
    package let shortName: String
    package let isFolder: Bool
    /// The length of a file in bytes; 0 for a folder.
    package let byteCount: UInt32
    /// The attribute bits ("FAT Directory Structure", DIR_Attr).
    package let attributes: UInt8
    /// The first cluster of its contents; 0 for an empty file, and for `..` of a folder in the root.
    let firstCluster: UInt32
}

/// The entries of a folder ("FAT Directory Structure", "FAT Long Directory Entries").
enum FATFolder {
    private enum Attribute {
        static let volumeID: UInt8 = 0x08
        static let folder: UInt8 = 0x10
        /// READ_ONLY | HIDDEN | SYSTEM | VOLUME_ID marks a part of a long name; compared under a mask of 0x3F.
        static let longName: UInt8 = 0x0F
    }

    /// Files and folders, without `.` and `..`, labels and deleted ones. Invalid entries are omitted.
    static func entries(_ bytes: [UInt8], entryBits: Int) -> [FATEntry] {
        var result: [FATEntry] = []
        var longName = LongName()
        for place in stride(from: 0, to: bytes.count - bytes.count % 32, by: 32) {
            let raw = Array(bytes[place..<place + 32])
            if raw[0] == 0 { break }  // "there are no allocated directory entries after this one"
            let attributes = raw[11]  // DIR_Attr
            if raw[0] == 0xE5 {
                longName = LongName()
            } else if attributes & 0x3F == Attribute.longName {
                longName.take(raw)
            } else {
                if attributes & Attribute.volumeID == 0, raw[0] != UInt8(ascii: "."),
                    let entry = try? entry(raw, attributes, longName, entryBits)
                {
                    result.append(entry)
                }
                longName = LongName()
            }
        }
        return result
    }

    private static func entry(
        _ raw: [UInt8], _ attributes: UInt8, _ longName: LongName, _ entryBits: Int
    ) throws(ParsingError) -> FATEntry {
        // DIR_FstClusHI has another meaning before FAT32.
        let high = entryBits == 32 ? try raw.littleEndian(UInt16.self, at: 20) : 0
        let low = try raw.littleEndian(UInt16.self, at: 26)  // DIR_FstClusLO
        let isFolder = attributes & Attribute.folder != 0
        let short = shortName(raw)
        return FATEntry(
            name: longName.text(forShortName: Array(raw.prefix(11))) ?? short, shortName: short, isFolder: isFolder,
            byteCount: isFolder ? 0 : try raw.littleEndian(at: 28), attributes: attributes,  // DIR_FileSize
            firstCluster: UInt32(high) << 16 | UInt32(low))
    }

    /// The label of a volume: the entry of the root folder with only that attribute, as in libblkid.
    static func label(_ bytes: [UInt8]) -> String? {
        for place in stride(from: 0, to: bytes.count - bytes.count % 32, by: 32) {
            if bytes[place] == 0 { return nil }
            let attributes = bytes[place + 11]
            let hasContents = [20, 21, 26, 27].contains { bytes[place + $0] != 0 }
            if bytes[place] != 0xE5, attributes & 0x3F != Attribute.longName, !hasContents,
                attributes & (Attribute.volumeID | Attribute.folder) == Attribute.volumeID
            {
                return text(Array(bytes[place..<place + 11]))
            }
        }
        return nil
    }

    /// A fixed field without its padding blanks. Its code page is not recorded: characters
    /// outside of ASCII are replaced.
    static func text(_ field: [UInt8]) -> String {
        var bytes = field
        // "a first byte of 0x05 stands for 0xE5"
        if bytes.first == 0x05 { bytes[0] = 0xE5 }
        while bytes.last == 0x20 || bytes.last == 0 { bytes.removeLast() }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func shortName(_ raw: [UInt8]) -> String {
        // DIR_NTRes: Windows NT and Linux use it to keep an all-lower-case name short.
        let base = text(Array(raw[0..<8]))
        let suffix = text(Array(raw[8..<11]))
        let shownBase = raw[12] & 0x08 != 0 ? base.lowercased() : base
        let shownSuffix = raw[12] & 0x10 != 0 ? suffix.lowercased() : suffix
        return suffix.isEmpty ? shownBase : shownBase + "." + shownSuffix
    }
}

/// The parts of a long name, which precede the short entry in descending order.
private struct LongName {
    private var parts: [[UInt16]] = []
    private var expected = 0
    private var checksum: UInt8 = 0

    mutating func take(_ raw: [UInt8]) {
        let order = Int(raw[0])  // LDIR_Ord
        let number = order & 0x3F
        if order & 0x40 != 0 {
            parts = []
            expected = number
            checksum = raw[13]  // LDIR_Chksum
        }
        // 255 characters need 20 parts.
        guard number >= 1, number <= 20, number == expected, checksum == raw[13] else {
            self = LongName()
            return
        }
        // LDIR_Name1, LDIR_Name2, LDIR_Name3
        let places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30]
        parts.append(places.map { UInt16(raw[$0]) | UInt16(raw[$0 + 1]) << 8 })
        expected -= 1
    }

    /// The name, where all parts were present and belong to this short name.
    func text(forShortName name: [UInt8]) -> String? {
        guard !parts.isEmpty, expected == 0 else { return nil }
        let sum = name.reduce(0 as UInt8) { ($0 >> 1 | $0 << 7) &+ $1 }
        guard sum == checksum else { return nil }
        return String(decoding: parts.reversed().joined().prefix { $0 != 0 && $0 != 0xFFFF }, as: UTF16.self)
    }
}
