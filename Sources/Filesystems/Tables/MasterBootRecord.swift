// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The record in LBA 0 (UEFI 2.10 §5.2.1, table 5-1): boot code and four entries.
package struct MasterBootRecord {
    /// The offset of the entries, in bytes.
    package static let entriesOffset = 446
    /// The offset of the signature.
    package static let signatureOffset = 510
    /// The bytes 0x55 0xAA.
    package static let signature: UInt16 = 0xAA55

    /// One entry (UEFI 2.10 §5.2.1, table 5-2). Addresses in sectors.
    package struct Entry: Equatable {
        /// The length of an entry in bytes.
        package static let byteCount = 16
        /// The offsets of the fields, in bytes.
        package enum Offset {
            package static let type = 4
            package static let startLBA = 8
            package static let sectorCount = 12
        }

        let bootIndicator: UInt8
        package let type: UInt8
        package let startLBA: UInt32
        package let sectorCount: UInt32

        /// Whether it is a protective MBR's entry for the GPT itself (UEFI 2.10 §5.2.3).
        package var isProtective: Bool { type == 0xEE && startLBA == 1 }
        /// Whether the kernel ignores it.
        var isEmpty: Bool { type == 0 || sectorCount == 0 }
    }

    /// The first 440 bytes.
    let bootCode: [UInt8]
    /// The unique MBR disk signature.
    let diskSignature: UInt32
    package let entries: [Entry]

    /// `nil` if the signature 0x55 0xAA is missing at byte 510.
    package init?(_ sector: [UInt8]) {
        do {
            guard try sector.littleEndian(UInt16.self, at: Self.signatureOffset) == Self.signature else { return nil }
            bootCode = try sector.bytes(at: 0, count: 440)
            diskSignature = try sector.littleEndian(at: 440)
            var entries: [Entry] = []
            for place in stride(from: Self.entriesOffset, to: Self.signatureOffset, by: Entry.byteCount) {
                entries.append(
                    Entry(
                        bootIndicator: try sector.littleEndian(at: place),
                        type: try sector.littleEndian(at: place + Entry.Offset.type),
                        startLBA: try sector.littleEndian(at: place + Entry.Offset.startLBA),
                        sectorCount: try sector.littleEndian(at: place + Entry.Offset.sectorCount)))
            }
            self.entries = entries
        } catch {
            return nil
        }
    }

    /// Whether it is a partition table, and not a boot sector with the same signature: every indicator is 0 or 0x80,
    /// and there is a partition.
    var isPlausibleTable: Bool {
        entries.allSatisfy { $0.bootIndicator & 0x7F == 0 } && entries.contains { !$0.isEmpty }
    }
}
