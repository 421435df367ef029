// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// A FILE record of the master file table, with its update sequence reverted (MFT_RECORD of ntfs-3g's layout.h).
struct NTFSRecord {
    /// The unit of the update sequence, whatever the sector size (NTFS_BLOCK_SIZE).
    private static let stride = 512

    let number: UInt64
    let sequenceNumber: UInt16
    /// The number of its names in folders.
    let linkCount: UInt16
    let isFolder: Bool
    /// The number of the record that this one extends; 0 for a base record.
    let baseNumber: UInt64
    let attributes: [NTFSAttribute]

    /// - Throws: `ParsingError` if it is not in use, torn, or not record `number`.
    init(_ raw: [UInt8], number: UInt64) throws(ParsingError) {
        let bytes = try Self.undoingUpdateSequence(raw, magic: "FILE")
        self.number = number
        sequenceNumber = try bytes.littleEndian(at: 16)  // sequence_number
        linkCount = try bytes.littleEndian(at: 18)  // link_count
        let first = Int(try bytes.littleEndian(UInt16.self, at: 20))  // attrs_offset
        let flags = try bytes.littleEndian(UInt16.self, at: 22)  // MFT_RECORD_IN_USE, MFT_RECORD_IS_DIRECTORY
        let used = Int(try bytes.littleEndian(UInt32.self, at: 24))  // bytes_in_use
        let allocated = Int(try bytes.littleEndian(UInt32.self, at: 28))  // bytes_allocated
        baseNumber = try bytes.littleEndian(UInt64.self, at: 32) & 0xFFFF_FFFF_FFFF  // base_mft_record
        isFolder = flags & 2 != 0
        guard flags & 1 != 0 else { throw .invalid(what: "file record \(number), which is not in use,") }
        guard allocated == bytes.count, used <= allocated, first % 8 == 0, first >= 42, first < used else {
            throw .invalid(what: "the head of file record \(number)")
        }
        // mft_record_number, if the update sequence leaves room for it: since version 3.1.
        if try bytes.littleEndian(UInt16.self, at: 4) >= 48 {
            guard try bytes.littleEndian(UInt32.self, at: 44) == UInt32(truncatingIfNeeded: number) else {
                throw .invalid(what: "the number of file record \(number)")
            }
        }
        attributes = try Self.attributes(Array(bytes[..<used]), from: first)
    }

    private static func attributes(_ bytes: [UInt8], from first: Int) throws(ParsingError) -> [NTFSAttribute] {
        var result: [NTFSAttribute] = []
        var offset = first
        // AT_END, which has no length. Each attribute has at least 24 bytes.
        while try bytes.littleEndian(UInt32.self, at: offset) != .max {
            let length = Int(try bytes.littleEndian(UInt32.self, at: offset + 4))
            guard length >= 24, length % 8 == 0, length <= bytes.count - offset else {
                throw .invalid(what: "the length of an attribute")
            }
            result.append(try NTFSAttribute(Array(bytes[offset..<offset + length])))
            offset += length
        }
        return result
    }

    /// The only attribute of a type and name in this record; `nil` without one.
    func attribute(_ type: NTFSAttribute.Kind, name: String = "", lowestCluster: UInt64? = nil)
        throws(ParsingError) -> NTFSAttribute?
    {
        let found = attributes.filter { attribute in
            attribute.type == type.rawValue && attribute.name == Array(name.utf16)
                && (lowestCluster == nil || attribute.lowestCluster == lowestCluster)
        }
        guard found.count <= 1 else { throw .invalid(what: "file record \(number) with two attributes of one name") }
        return found.first
    }

    /// The record (FILE, INDX, RSTR) before its update sequence was applied: the last two bytes of each 512 are in the
    /// update sequence array, and are replaced by the update sequence number (NTFS_RECORD, usa_ofs and usa_count).
    /// - Throws: `ParsingError` for another magic, or a differing number: torn by a power cut.
    static func undoingUpdateSequence(_ raw: [UInt8], magic: String) throws(ParsingError) -> [UInt8] {
        guard try raw.bytes(at: 0, count: 4) == Array(magic.utf8) else {
            throw .invalid(what: "the signature of a \(magic) record")
        }
        let offset = Int(try raw.littleEndian(UInt16.self, at: 4))
        let count = Int(try raw.littleEndian(UInt16.self, at: 6))
        // The array must end before the first position that it protects.
        guard raw.count % stride == 0, count == raw.count / stride + 1, offset % 2 == 0, offset >= 8,
            offset + 2 * count <= stride - 2
        else { throw .invalid(what: "the update sequence of a \(magic) record") }
        var bytes = raw
        let number = try raw.bytes(at: offset, count: 2)
        for index in 1..<count {
            let place = index * stride - 2
            guard try raw.bytes(at: place, count: 2) == number else {
                throw .invalid(what: "a \(magic) record that was written in part")
            }
            bytes.replaceSubrange(place..<place + 2, with: try raw.bytes(at: offset + 2 * index, count: 2))
        }
        return bytes
    }
}
