// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The record in LBA 0 (UEFI 2.10 §5.2.1, table 5-1): boot code and four entries.
struct MasterBootRecord {
    /// One entry (UEFI 2.10 §5.2.1, table 5-2). Addresses in sectors.
    struct Entry: Equatable {
        let bootIndicator: UInt8
        let type: UInt8
        let startLBA: UInt32
        let sectorCount: UInt32

        /// Whether the kernel ignores it.
        var isEmpty: Bool { type == 0 || sectorCount == 0 }
    }

    /// The first 440 bytes.
    let bootCode: [UInt8]
    /// The unique MBR disk signature.
    let diskSignature: UInt32
    let entries: [Entry]

    /// `nil` where the signature 0x55 0xAA is missing at byte 510.
    init?(_ sector: [UInt8]) {
        do {
            guard try sector.littleEndian(UInt16.self, at: 510) == 0xAA55 else { return nil }
            bootCode = try sector.bytes(at: 0, count: 440)
            diskSignature = try sector.littleEndian(at: 440)
            var entries: [Entry] = []
            for place in stride(from: 446, to: 510, by: 16) {
                entries.append(
                    Entry(
                        bootIndicator: try sector.littleEndian(at: place),
                        type: try sector.littleEndian(at: place + 4),
                        startLBA: try sector.littleEndian(at: place + 8),
                        sectorCount: try sector.littleEndian(at: place + 12)))
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
