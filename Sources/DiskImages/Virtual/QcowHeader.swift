// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel

/// The header of a qcow2 image (docs/interop/qcow2.txt in QEMU's source).
enum QcowHeader {
    /// Incompatible features: dirty, corrupt, external data file, compression type, extended L2 entries.
    private static let (corrupt, externalData, extended, known): (UInt64, UInt64, UInt64, UInt64) = (
        1 << 1, 1 << 2, 1 << 4, 0x1F
    )
    private static let (backingFormat, dataFileName): (UInt32, UInt32) = (0xE279_2ACA, 0x4441_5441)
    /// QEMU's own limit for the length of the name.
    private static let longestName: UInt32 = 1023

    static func read(_ file: any BlockReader) throws(ImageError) -> VirtualHeader {
        let head = try file.part(at: 0, count: Int(min(file.byteCount, 2 << 20)))
        return try header(head, file)
    }

    private static func header(_ head: [UInt8], _ file: any BlockReader) throws(ImageError) -> VirtualHeader {
        func field<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type, _ offset: Int) throws(ImageError) -> T {
            try file.parsing(at: UInt64(offset)) { () throws(ParsingError) in try head.bigEndian(type, at: offset) }
        }
        let version = try field(UInt32.self, 4)
        guard version == 2 || version == 3 else {
            throw file.refused(
                "it has version \(version) of the qcow format", instead: "Convert it (qemu-img convert -O qcow2)")
        }
        let clusterBits = try field(UInt32.self, 20)
        guard (9...21).contains(clusterBits) else { throw file.damaged("its cluster size", at: 20) }
        guard try field(UInt32.self, 32) == 0 else {
            throw file.refused(
                "it is encrypted by QEMU", instead: "Decrypt it into a raw image (qemu-img convert with its secret)")
        }
        let features = version == 3 ? try field(UInt64.self, 72) : 0
        guard features & ~known == 0 else {
            throw file.refused(
                "it has features that are not known here (bits \(String(features & ~known, radix: 16)))",
                instead: "Convert it with the QEMU that made it (qemu-img convert -O qcow2)")
        }
        guard features & corrupt == 0 else {
            throw file.refused(
                "it is marked as corrupt", instead: "Repair a copy of it (qemu-img check -r all) and give that one")
        }
        var header = VirtualHeader(format: .qcow2, byteCount: try field(UInt64.self, 24))
        let headerByteCount = version == 3 ? try field(UInt32.self, 100) : 72
        let cluster = UInt64(1) << UInt64(clusterBits)
        header.qcowTables = QcowTables(
            clusterByteCount: cluster, byteCount: header.byteCount, offset: try field(UInt64.self, 40),
            entryCount: try field(UInt32.self, 36), isExtended: features & extended != 0)
        let nameOffset = try field(UInt64.self, 8)
        let nameByteCount = try field(UInt32.self, 16)
        let end = nameOffset == 0 ? cluster : min(nameOffset, cluster)
        guard UInt64(headerByteCount) <= end, headerByteCount >= (version == 3 ? 104 : 72) else {
            throw file.damaged("the length of its header", at: 100)
        }
        let extensions = try extensions(head, from: Int(headerByteCount), to: Int(end), file)
        if nameOffset != 0, nameByteCount > 0 {
            guard nameByteCount <= longestName, nameOffset <= cluster - UInt64(nameByteCount) else {
                throw file.damaged("the place of its backing file's name", at: 8)
            }
            header.backing = VirtualHeader.Reference(
                name: try text(head, Int(nameOffset), Int(nameByteCount), file),
                format: try extensions[backingFormat].map { place throws(ImageError) in
                    try text(head, place.lowerBound, place.count, file)
                })
        }
        if features & externalData != 0 {
            guard let place = extensions[dataFileName], !place.isEmpty else {
                throw file.damaged("the name of its data file is missing", at: 72)
            }
            header.dataFile = .init(name: try text(head, place.lowerBound, place.count, file))
        }
        return header
    }

    /// The places of the known extensions, each of a type and a length, padded to 8 bytes.
    private static func extensions(
        _ head: [UInt8], from start: Int, to end: Int, _ file: any BlockReader
    ) throws(ImageError) -> [UInt32: Range<Int>] {
        var found: [UInt32: Range<Int>] = [:]
        var position = start
        while position + 8 <= min(end, head.count) {
            let place = position
            let (type, count) = try file.parsing(at: UInt64(place)) { () throws(ParsingError) in
                (try head.bigEndian(UInt32.self, at: place), try head.bigEndian(UInt32.self, at: place + 4))
            }
            if type == 0 { break }
            guard UInt64(count) <= UInt64(min(end, head.count) - place - 8) else {
                throw file.damaged("the length of a header extension", at: UInt64(place))
            }
            found[type] = place + 8..<place + 8 + Int(count)
            position = place + 8 + (Int(count) + 7) / 8 * 8
        }
        return found
    }

    private static func text(
        _ head: [UInt8], _ offset: Int, _ count: Int, _ file: any BlockReader
    ) throws(ImageError) -> String {
        guard offset <= head.count, count <= head.count - offset,
            let text = String(validating: head[offset..<offset + count], as: UTF8.self)
        else { throw file.damaged("the name of another file", at: UInt64(offset)) }
        return text
    }
}
