// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// A GPT header (UEFI 2.10 §5.3.2, table 5-5) with a correct checksum; its fields are unchecked. Addresses in sectors.
package struct GPTHeaderFields: Equatable, Sendable {
    /// The offsets of the fields, in bytes.
    package enum Offset {
        static let revision = 8
        package static let headerSize = 12
        package static let checksum = 16
        static let ownLBA = 24
        package static let alternateLBA = 32
        static let firstUsableLBA = 40
        package static let lastUsableLBA = 48
        static let diskGUID = 56
        package static let entriesLBA = 72
        package static let entryCount = 80
        package static let entrySize = 84
        static let entriesChecksum = 88
    }

    /// "EFI PART".
    static let signature = Array("EFI PART".utf8)
    /// The length of the fields of revision 1.0; the bytes after them are reserved.
    package static let leastByteCount = 92

    private var bytes: [UInt8]
    /// MyLBA.
    package var ownLBA: UInt64
    /// AlternateLBA.
    package var alternateLBA: UInt64
    /// FirstUsableLBA.
    package var firstUsableLBA: UInt64
    /// LastUsableLBA.
    package var lastUsableLBA: UInt64
    /// DiskGUID.
    package let diskGUID: GUID
    /// PartitionEntryLBA.
    package var entriesLBA: UInt64
    /// NumberOfPartitionEntries.
    package let entryCount: Int
    /// SizeOfPartitionEntry, in bytes.
    package let entrySize: Int
    /// PartitionEntryArrayCRC32.
    package var entriesChecksum: UInt32

    /// Reads a header at the start of a sector.
    package init(_ sector: [UInt8]) throws(ParsingError) {
        guard try sector.bytes(at: 0, count: 8) == Self.signature else { throw .invalid(what: "signature") }
        guard try sector.littleEndian(UInt32.self, at: Offset.revision) == 0x0001_0000 else {
            throw .invalid(what: "revision")
        }
        let byteCount = Int(try sector.littleEndian(UInt32.self, at: Offset.headerSize))
        guard byteCount >= Self.leastByteCount, byteCount <= sector.count else { throw .invalid(what: "header size") }
        bytes = try sector.bytes(at: 0, count: byteCount)
        ownLBA = try sector.littleEndian(at: Offset.ownLBA)
        alternateLBA = try sector.littleEndian(at: Offset.alternateLBA)
        firstUsableLBA = try sector.littleEndian(at: Offset.firstUsableLBA)
        lastUsableLBA = try sector.littleEndian(at: Offset.lastUsableLBA)
        diskGUID = try GUID(mixedEndianBytes: try sector.bytes(at: Offset.diskGUID, count: 16))
        entriesLBA = try sector.littleEndian(at: Offset.entriesLBA)
        entryCount = Int(try sector.littleEndian(UInt32.self, at: Offset.entryCount))
        entrySize = Int(try sector.littleEndian(UInt32.self, at: Offset.entrySize))
        entriesChecksum = try sector.littleEndian(at: Offset.entriesChecksum)
        guard Self.checksum(bytes) == (try sector.littleEndian(UInt32.self, at: Offset.checksum)) else {
            throw .invalid(what: "header checksum")
        }
    }

    /// Removes the reserved bytes after the fields.
    package mutating func removeReserved() {
        bytes.removeLast(bytes.count - Self.leastByteCount)
        bytes.setLittleEndian(UInt32(Self.leastByteCount), at: Offset.headerSize)
    }

    /// The encoded header, with its checksum.
    package func encoded() -> [UInt8] {
        var result = bytes
        result.setLittleEndian(ownLBA, at: Offset.ownLBA)
        result.setLittleEndian(alternateLBA, at: Offset.alternateLBA)
        result.setLittleEndian(firstUsableLBA, at: Offset.firstUsableLBA)
        result.setLittleEndian(lastUsableLBA, at: Offset.lastUsableLBA)
        result.setLittleEndian(entriesLBA, at: Offset.entriesLBA)
        result.setLittleEndian(entriesChecksum, at: Offset.entriesChecksum)
        result.setLittleEndian(Self.checksum(result), at: Offset.checksum)
        return result
    }

    /// The checksum of a header, with zeros in place of its checksum field.
    package static func checksum(_ header: [UInt8]) -> UInt32 {
        var header = header
        header.setLittleEndian(UInt32(0), at: Offset.checksum)
        return CRC32.iso.checksum(header)
    }
}

/// The offsets of the fields in a GPT entry, in bytes (UEFI 2.10 §5.3.3, table 5-6).
package enum GPTEntryOffset {
    /// PartitionTypeGUID: zero if the entry is not in use.
    package static let type = 0
    static let guid = 16
    /// StartingLBA.
    package static let firstLBA = 32
    /// EndingLBA: the last sector of the partition.
    package static let lastLBA = 40
    static let attributes = 48
    static let name = 56
}
