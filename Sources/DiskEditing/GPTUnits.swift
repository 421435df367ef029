// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems

/// A GPT for disks with another logical sector size. It counts in sectors and its copies are at sector positions, so
/// it cannot be moved: it is rewritten around the captured entries.
enum GPTUnits {
    /// The table of `captured`, whose primary copy is intact, for a disk of `geometry`, with
    /// its partitions at `places`.
    ///
    /// Entries keep their numbers and all bytes but their two addresses; the disk keeps its GUID and the number of
    /// entries. The boot code at the front is dropped: BIOS boots no disk with other sector sizes.
    static func converted(
        _ captured: CapturedTable, to geometry: DiskGeometry, places: [Int: ByteRange]
    ) throws -> CapturedTable {
        let old = captured.sectorSize
        let unit = UInt64(geometry.logicalSectorSize)
        var header = try GPTHeaderFields(try captured.head.bytes(at: old, count: old))
        header.removeReserved()
        let (entryCount, entrySize) = (header.entryCount, header.entrySize)
        let entriesAt = try header.entriesLBA.multiplied(by: UInt64(old), "the place of the entries")
        guard (1...1024).contains(entryCount), (128...4096).contains(entrySize), entrySize % 8 == 0,
            entriesAt <= UInt64(captured.head.count), unit >= 512, unit <= 4096, unit.nonzeroBitCount == 1
        else { throw TableEditError("the captured partition table cannot be made for sectors of \(unit) bytes") }
        var entries = try captured.head.bytes(at: Int(entriesAt), count: entryCount * entrySize)
        let padding = (Int(unit) - entries.count % Int(unit)) % Int(unit)
        let entrySectors = UInt64(entries.count + padding) / unit
        let sectorCount = geometry.byteCount / unit
        // LBA 0, both headers, the entries twice, and one sector for a partition.
        guard sectorCount > 3 + 2 * entrySectors else {
            throw TableEditError("the target is too small for a partition table")
        }
        let last = sectorCount - 1
        let usable = 2 + entrySectors...last - entrySectors - 1
        for index in 0..<entryCount {
            let at = index * entrySize
            guard entries[at..<at + 16].contains(where: { $0 != 0 }) else { continue }
            guard let place = places[index + 1] else {
                entries.replaceSubrange(at..<at + entrySize, with: repeatElement(0, count: entrySize))
                continue
            }
            guard place.lowerBound % unit == 0, place.upperBound % unit == 0, !place.isEmpty,
                usable.contains(place.lowerBound / unit), usable.contains(place.upperBound / unit - 1)
            else { throw TableEditError("partition \(index + 1) would not lie on whole sectors of \(unit) bytes") }
            entries.setLittleEndian(place.lowerBound / unit, at: at + GPTEntryOffset.firstLBA)
            entries.setLittleEndian(place.upperBound / unit - 1, at: at + GPTEntryOffset.lastLBA)
        }
        (header.firstUsableLBA, header.lastUsableLBA) = (usable.lowerBound, usable.upperBound)
        header.entriesChecksum = CRC32.iso.checksum(entries)
        func copy(own: UInt64, other: UInt64, entriesLBA: UInt64) -> [UInt8] {
            (header.ownLBA, header.alternateLBA, header.entriesLBA) = (own, other, entriesLBA)
            let result = header.encoded()
            return result + [UInt8](repeating: 0, count: Int(unit) - result.count)
        }
        let padded = entries + [UInt8](repeating: 0, count: padding)
        return CapturedTable(
            head: protectiveMBR(sectorCount: sectorCount, sectorSize: Int(unit))
                + copy(own: 1, other: last, entriesLBA: 2) + padded,
            tail: padded + copy(own: last, other: 1, entriesLBA: last - entrySectors),
            byteCount: sectorCount * unit, sectorSize: Int(unit))
    }

    /// UEFI 2.10 §5.2.3, table 5-4.
    static func protectiveMBR(sectorCount: UInt64, sectorSize: Int) -> [UInt8] {
        var block = [UInt8](repeating: 0, count: sectorSize)
        let entry = MasterBootRecord.entriesOffset
        block.replaceSubrange(entry..<entry + 8, with: [0x00, 0x00, 0x02, 0x00, 0xEE, 0xFF, 0xFF, 0xFF])
        block.setLittleEndian(UInt32(1), at: entry + MasterBootRecord.Entry.Offset.startLBA)
        block.setLittleEndian(
            UInt32(clamping: sectorCount - 1), at: entry + MasterBootRecord.Entry.Offset.sectorCount)
        block.setLittleEndian(MasterBootRecord.signature, at: MasterBootRecord.signatureOffset)
        return block
    }
}
