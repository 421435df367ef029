// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems

/// A GPT disk's MBR that lists some of its partitions a second time, for systems without GPT support. libparted
/// replaces it by a plain protective MBR whenever it writes the table.
enum HybridMBR {
    private typealias Entry = MasterBootRecord.Entry

    /// Whether the protective MBR (UEFI 2.10 §5.2.3: one entry, of type 0xEE) has partitions beside its own entry.
    static func isHybrid(_ head: [UInt8]) -> Bool {
        entries(head).contains { $0.type != 0 && $0.type != 0xEE && $0.count != 0 }
    }

    /// The front of a table with the captured MBR's partitions at their new places.
    ///
    /// - Parameter byteCount: the length of the target in bytes.
    ///
    /// An entry is left out if it lists no partition of the table, or one whose place no longer fits 32 bits.
    static func reapplied(
        _ captured: [UInt8], onto made: [UInt8], old: PartitionTable, places: [Int: ByteRange], sectorSize: Int,
        byteCount: UInt64
    ) -> [UInt8] {
        guard isHybrid(captured), made.count >= 512, captured.count >= 512 else { return made }
        let unit = UInt64(sectorSize)
        var head = made
        var firstPlace = UInt64.max
        var kept: [Int: (start: UInt32, count: UInt32)] = [:]
        for (index, entry) in entries(captured).enumerated() where entry.type != 0 && entry.type != 0xEE {
            let range = UInt64(entry.start) * unit..<(UInt64(entry.start) + UInt64(entry.count)) * unit
            guard let partition = old.partitions.first(where: { $0.range == range }),
                let place = places[partition.number], let start = UInt32(exactly: place.lowerBound / unit),
                let count = UInt32(exactly: place.byteCount / unit)
            else { continue }
            kept[index] = (start, count)
            firstPlace = min(firstPlace, UInt64(start))
        }
        guard !kept.isEmpty else { return made }
        for (index, entry) in entries(captured).enumerated() {
            let at = MasterBootRecord.entriesOffset + index * Entry.byteCount
            let bytes = captured[at..<at + Entry.byteCount]
            head.replaceSubrange(at..<at + Entry.byteCount, with: repeatElement(0, count: Entry.byteCount))
            if let place = kept[index] {
                head.replaceSubrange(at..<at + Entry.byteCount, with: bytes)
                head.setLittleEndian(place.start, at: at + Entry.Offset.startLBA)
                head.setLittleEndian(place.count, at: at + Entry.Offset.sectorCount)
            } else if entry.type == 0xEE {
                // Another protective entry covers the space behind; where partitions have moved into that
                // space, it protects nothing.
                let range = UInt64(entry.start)..<UInt64(entry.start) + UInt64(entry.count)
                let isInTheWay = kept.values.contains { place in
                    range.overlaps(UInt64(place.start)..<UInt64(place.start) + UInt64(place.count))
                }
                guard entry.start == 1 || !isInTheWay && range.upperBound <= byteCount / unit else { continue }
                head.replaceSubrange(at..<at + Entry.byteCount, with: bytes)
                // The one in front covers the table, up to the first partition that is named beside it.
                if entry.start == 1 {
                    head.setLittleEndian(UInt32(clamping: firstPlace - 1), at: at + Entry.Offset.sectorCount)
                }
            }
        }
        return head
    }

    private static func entries(_ head: [UInt8]) -> [(type: UInt8, start: UInt32, count: UInt32)] {
        let (first, end) = (MasterBootRecord.entriesOffset, MasterBootRecord.signatureOffset)
        return stride(from: first, to: end, by: Entry.byteCount).compactMap { at in
            guard let type: UInt8 = try? head.littleEndian(at: at + Entry.Offset.type),
                let start: UInt32 = try? head.littleEndian(at: at + Entry.Offset.startLBA),
                let count: UInt32 = try? head.littleEndian(at: at + Entry.Offset.sectorCount)
            else { return nil }
            return (type, start, count)
        }
    }
}
