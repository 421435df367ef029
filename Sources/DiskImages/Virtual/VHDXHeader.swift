// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel

/// The headers, region table and metadata of a VHDX image (MS-VHDX).
enum VHDXHeader {
    private static let headerOffsets: [UInt64] = [64 << 10, 128 << 10]
    private static let tableOffsets: [UInt64] = [192 << 10, 256 << 10]
    private static let metadataRegion = GUID("8B7CA206-4790-4B9A-B8FE-575F050F886E")
    private static let fileParameters = GUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
    private static let virtualSize = GUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
    private static let sectorSize = GUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
    /// §2.6.1: a metadata table is 64 KiB with at most 2047 entries, and items lie in the first MiB behind it.
    private static let metadataByteCount: UInt64 = 64 << 10
    private static let hasParent: UInt32 = 1 << 1

    static func read(_ file: any BlockReader) throws(ImageError) -> VirtualHeader {
        let hasLog = try activeHeaderHasLog(file)
        let metadata = try metadataPlace(file)
        let table = try file.part(at: metadata.lowerBound, count: Int(metadataByteCount))
        guard table.starts(with: Array("metadata".utf8)) else {
            throw file.damaged("its metadata table", at: metadata.lowerBound)
        }
        let items = try file.parsing(at: metadata.lowerBound) { () throws(ParsingError) in try Self.items(table) }
        func item(_ id: GUID?, _ count: Int) throws(ImageError) -> [UInt8] {
            guard let id, let place = items[id], place.count >= count,
                UInt64(place.offset) <= metadata.byteCount - min(metadata.byteCount, UInt64(count))
            else { throw file.damaged("its metadata lacks an item", at: metadata.lowerBound) }
            return try file.part(at: metadata.lowerBound + UInt64(place.offset), count: count)
        }
        let (parameters, size, sector) = (
            try item(fileParameters, 8), try item(virtualSize, 8), try item(sectorSize, 4)
        )
        let (flags, byteCount, sectorByteCount) = try file.parsing(at: metadata.lowerBound) {
            () throws(ParsingError) -> (UInt32, UInt64, UInt32) in
            (
                try parameters.littleEndian(UInt32.self, at: 4), try size.littleEndian(UInt64.self, at: 0),
                try sector.littleEndian(UInt32.self, at: 0)
            )
        }
        guard flags & hasParent == 0 else {
            throw file.refused(
                "it is a differencing VHDX, which holds only the changes to another one",
                instead: "Merge it first (Hyper-V: Merge-VHD, or Convert-VHD)")
        }
        guard sectorByteCount == 512 || sectorByteCount == 4096, byteCount % UInt64(sectorByteCount) == 0 else {
            throw file.damaged("its sector size \(sectorByteCount)", at: metadata.lowerBound)
        }
        var header = VirtualHeader(format: .vhdx, byteCount: byteCount, sectorSize: Int(sectorByteCount))
        header.hasLog = hasLog
        return header
    }

    /// §2.2.2: of the two headers, the valid one with the higher sequence number is active. A log that is not empty has
    /// an id.
    private static func activeHeaderHasLog(_ file: any BlockReader) throws(ImageError) -> Bool {
        var active: (sequence: UInt64, hasLog: Bool)?
        for offset in headerOffsets {
            let bytes = try file.part(at: offset, count: 4096)
            guard bytes.starts(with: Array("head".utf8)), hasChecksum(bytes) else { continue }
            let sequence = try file.parsing(at: offset) { () throws(ParsingError) in
                try bytes.littleEndian(UInt64.self, at: 8)
            }
            let hasLog = !bytes[48..<64].allSatisfy { $0 == 0 }
            if active.map({ $0.sequence < sequence }) ?? true { active = (sequence, hasLog) }
        }
        guard let active else { throw file.damaged("both of its headers", at: headerOffsets[0]) }
        return active.hasLog
    }

    /// §2.2.3: the region table, or its copy.
    private static func metadataPlace(_ file: any BlockReader) throws(ImageError) -> ByteRange {
        for offset in tableOffsets {
            let bytes = try file.part(at: offset, count: 64 << 10)
            guard bytes.starts(with: Array("regi".utf8)), hasChecksum(bytes) else { continue }
            let found = try file.parsing(at: offset) { () throws(ParsingError) -> ByteRange? in
                let count = Int(min(try bytes.littleEndian(UInt32.self, at: 8), 2047))
                for index in 0..<count {
                    let entry = 16 + 32 * index
                    guard try GUID(mixedEndianBytes: try bytes.bytes(at: entry, count: 16)) == metadataRegion else {
                        continue
                    }
                    let start = try bytes.littleEndian(UInt64.self, at: entry + 16)
                    let length = try UInt64(bytes.littleEndian(UInt32.self, at: entry + 24))
                    return start..<(try start.adding(length, "the end of the metadata"))
                }
                return nil
            }
            guard let found, found.byteCount >= metadataByteCount else { continue }
            return found
        }
        throw file.damaged("both of its region tables", at: tableOffsets[0])
    }

    private static func items(
        _ table: [UInt8]
    ) throws(ParsingError) -> [GUID: (offset: UInt32, count: Int)] {
        var items: [GUID: (offset: UInt32, count: Int)] = [:]
        for index in 0..<Int(min(try table.littleEndian(UInt16.self, at: 10), 2046)) {
            let entry = 32 + 32 * index
            let id = try GUID(mixedEndianBytes: try table.bytes(at: entry, count: 16))
            items[id] = (
                try table.littleEndian(UInt32.self, at: entry + 16),
                Int(try table.littleEndian(UInt32.self, at: entry + 20))
            )
        }
        return items
    }

    /// CRC-32C over all, with the checksum's own bytes as zeros.
    private static func hasChecksum(_ bytes: [UInt8]) -> Bool {
        guard let stored = try? bytes.littleEndian(UInt32.self, at: 4) else { return false }
        var cleared = bytes
        for index in 4..<8 { cleared[index] = 0 }
        return CRC32.castagnoli.checksum(cleared) == stored
    }
}
