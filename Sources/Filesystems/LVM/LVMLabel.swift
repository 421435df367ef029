// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The label of an LVM2 physical volume, with the header behind it: LVM2's `lib/label/label.h` (struct label_header)
/// and `lib/format_text/layout.h` (struct pv_header, pv_header_extension, disk_locn).
struct LVMLabel: Equatable, Sendable {
    /// The index of its sector, of 512 bytes whatever the disk's sector size.
    let sectorIndex: Int
    /// The PV's id: 32 characters.
    let id: String
    /// The PV's length in bytes; a volume group may have a smaller value.
    let deviceByteCount: UInt64
    /// The start of the extents, usually one area without an end: its length is 0 until a group sets one.
    let dataAreas: [(offset: UInt64, byteCount: UInt64)]
    let metadataAreas: [ByteRange]
    /// Areas reserved for a boot loader.
    let bootLoaderAreas: [ByteRange]

    static let sectorSize = 512
    /// LABEL_SCAN_SECTORS: the sectors that may contain a label.
    static let scannedSectors = 4
    /// INITIAL_CRC of `lib/misc/crc.h`: LVM does not invert before or after.
    private static let initialChecksum: UInt32 = 0xF597_A6CF
    static func checksum(_ bytes: [UInt8]) -> UInt32 { CRC32.iso.update(initialChecksum, bytes) }

    static func == (one: LVMLabel, other: LVMLabel) -> Bool {
        one.sectorIndex == other.sectorIndex && one.id == other.id
    }

    /// The labels at the start of a volume: empty without any, more than one where an old one was left.
    static func find(_ volume: any BlockReader) throws(BlockIOError) -> [Result<LVMLabel, ParsingError>] {
        let count = min(UInt64(scannedSectors * sectorSize), volume.byteCount)
        let bytes = try volume.readBytes(at: 0, count: Int(count))
        return (0..<bytes.count / sectorSize).compactMap { index in
            let sector = Array(bytes[index * sectorSize..<(index + 1) * sectorSize])
            guard isLabel(sector, index) else { return nil }
            return Result { () throws(ParsingError) in try LVMLabel(sector, index) }
        }
    }

    private static func isLabel(_ sector: [UInt8], _ index: Int) -> Bool {
        guard sector.starts(with: Array("LABELONE".utf8)), Array(sector[24..<32]) == Array("LVM2 001".utf8),
            (try? sector.littleEndian(UInt64.self, at: 8)) == UInt64(index),  // sector_xl
            // crc_xl covers what follows it.
            (try? sector.littleEndian(UInt32.self, at: 16)) == checksum(Array(sector[20...]))
        else { return false }
        return true
    }

    private init(_ sector: [UInt8], _ index: Int) throws(ParsingError) {
        sectorIndex = index
        let header = Int(try sector.littleEndian(UInt32.self, at: 20))  // offset_xl
        guard header >= 32 else { throw .invalid(what: "the place of its PV header") }
        let id = try sector.bytes(at: header, count: 32)  // pv_uuid
        guard id.allSatisfy({ Self.isIdentifier($0) }) else { throw .invalid(what: "its PV id") }
        self.id = String(decoding: id, as: UTF8.self)
        deviceByteCount = try sector.littleEndian(UInt64.self, at: header + 32)  // device_size_xl
        var position = header + 40  // disk_areas_xl
        dataAreas = try Self.areas(sector, &position)
        metadataAreas = try Self.ranges(try Self.areas(sector, &position))
        // pv_header_extension: version, flags, then the boot loader areas. Zero in labels of older programs.
        guard let version = try? sector.littleEndian(UInt32.self, at: position), version > 0 else {
            bootLoaderAreas = []
            return
        }
        position += 8
        bootLoaderAreas = try Self.ranges(try Self.areas(sector, &position))
    }

    /// A list of struct disk_locn (offset, size) that ends with an offset of 0.
    private static func areas(
        _ sector: [UInt8], _ position: inout Int
    ) throws(ParsingError) -> [(offset: UInt64, byteCount: UInt64)] {
        var areas: [(offset: UInt64, byteCount: UInt64)] = []
        while true {
            let offset = try sector.littleEndian(UInt64.self, at: position)
            let byteCount = try sector.littleEndian(UInt64.self, at: position + 8)
            position += 16
            if offset == 0 { return areas }
            areas.append((offset, byteCount))
        }
    }

    private static func ranges(
        _ areas: [(offset: UInt64, byteCount: UInt64)]
    ) throws(ParsingError) -> [ByteRange] {
        var ranges: [ByteRange] = []
        for area in areas {
            guard let range = ByteRange(offset: area.offset, byteCount: area.byteCount) else {
                throw .overflow(what: "the end of an area")
            }
            ranges.append(range)
        }
        return ranges
    }

    /// The characters of an id (`lib/uuid/uuid.c`).
    static func isIdentifier(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "!"), UInt8(ascii: "#"):
            true
        default: false
        }
    }

    /// The id in display form: `VA1xUc-9KJC-KZz5-Msoo-rVdc-UdXm-Dr0t1F`.
    var uuidText: String {
        var text = ""
        for (index, character) in id.enumerated() {
            if [6, 10, 14, 18, 22, 26].contains(index) { text.append("-") }
            text.append(character)
        }
        return text
    }
}
