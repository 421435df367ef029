// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// One attribute in one FILE record: all of it, or one part of its clusters (ATTR_RECORD of ntfs-3g's layout.h).
struct NTFSAttribute {
    /// The supported types (ATTR_TYPES).
    enum Kind: UInt32 {
        case attributeList = 0x20
        case volumeName = 0x60
        case volumeInformation = 0x70
        case data = 0x80
        case indexRoot = 0x90
        case indexAllocation = 0xA0
        case bitmap = 0xB0
        case reparsePoint = 0xC0
    }

    /// The place of its bytes.
    enum Content {
        /// In the record.
        case resident([UInt8])
        /// In clusters.
        case clusters(Clusters)
    }

    /// The part of a non-resident attribute that one record describes.
    struct Clusters {
        /// lowest_vcn, and the first cluster behind this part (highest_vcn + 1).
        let range: Range<UInt64>
        let mappingPairs: [UInt8]
        /// In bytes; valid only in the first part.
        let allocatedByteCount: UInt64
        let byteCount: UInt64
        let initializedByteCount: UInt64
    }

    let type: UInt32
    /// In UTF-16; empty for the unnamed attribute.
    let name: [UInt16]
    /// ATTR_IS_COMPRESSED, ATTR_IS_ENCRYPTED, ATTR_IS_SPARSE, and unknown flags.
    let flags: UInt16
    let content: Content

    /// - Parameter bytes: exactly the attribute, 24 bytes at least.
    init(_ bytes: [UInt8]) throws(ParsingError) {
        type = try bytes.littleEndian(at: 0)
        let nameOffset = Int(try bytes.littleEndian(UInt16.self, at: 10))  // name_offset
        var name: [UInt16] = []
        for index in 0..<Int(try bytes.littleEndian(UInt8.self, at: 9)) {  // name_length
            name.append(try bytes.littleEndian(at: nameOffset + 2 * index))
        }
        self.name = name
        flags = try bytes.littleEndian(at: 12)
        switch try bytes.littleEndian(UInt8.self, at: 8) {  // non_resident
        case 0:
            let count = Int(try bytes.littleEndian(UInt32.self, at: 16))  // value_length
            let offset = Int(try bytes.littleEndian(UInt16.self, at: 20))  // value_offset
            content = .resident(try bytes.bytes(at: offset, count: count))
        case 1:
            let lowest = try bytes.littleEndian(Int64.self, at: 16)  // lowest_vcn
            let highest = try bytes.littleEndian(Int64.self, at: 24)  // highest_vcn; -1 for none
            let pairs = Int(try bytes.littleEndian(UInt16.self, at: 32))  // mapping_pairs_offset
            guard lowest >= 0, highest >= -1, highest < .max, highest + 1 >= lowest, pairs >= 64, pairs < bytes.count
            else { throw .invalid(what: "the head of a non-resident attribute") }
            var counts: [UInt64] = []
            for offset in [40, 48, 56] {  // allocated_size, data_size, initialized_size
                let count = try bytes.littleEndian(Int64.self, at: offset)
                guard count >= 0 || lowest > 0 else { throw .invalid(what: "the size of a non-resident attribute") }
                counts.append(UInt64(max(0, count)))
            }
            content = .clusters(
                Clusters(
                    range: UInt64(lowest)..<UInt64(highest + 1), mappingPairs: Array(bytes[pairs...]),
                    allocatedByteCount: counts[0], byteCount: counts[1], initializedByteCount: counts[2]))
        default: throw .invalid(what: "the kind of an attribute")
        }
    }

    /// 0 if it is in the record, as in attribute lists.
    var lowestCluster: UInt64 {
        if case .clusters(let clusters) = content { clusters.range.lowerBound } else { 0 }
    }
}
