// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems

/// The raw bytes of a partition table: the start and the end of a disk as far as partitions may not use them, and the
/// extended boot records of an MBR.
package struct CapturedTable: Codable, Equatable, Sendable {
    /// Bytes from the start of the disk (GPT: block 0, the header, the entries).
    package var head: [UInt8]
    /// Bytes up to the end of the disk (GPT: the backup entries and header).
    package var tail: [UInt8]
    /// The extended boot records of an MBR, in the order of their chain.
    package var records: [Record]
    /// The length of the disk in bytes.
    package var byteCount: UInt64
    /// The logical sector size in bytes.
    package var sectorSize: Int

    /// A sector between the partitions.
    package struct Record: Codable, Equatable, Sendable {
        /// Its position on the disk in bytes.
        package var offset: UInt64
        package var bytes: [UInt8]

        package init(offset: UInt64, bytes: [UInt8]) {
            self.offset = offset
            self.bytes = bytes
        }
    }

    package init(head: [UInt8], tail: [UInt8], records: [Record] = [], byteCount: UInt64, sectorSize: Int) {
        self.head = head
        self.tail = tail
        self.records = records
        self.byteCount = byteCount
        self.sectorSize = sectorSize
    }

    /// Reads the table's bytes at both ends of the disk: at the start up to the end of the entries (UEFI 2.10 §5.3.2:
    /// at the place given by the header), at the end everything behind the usable range, with at most 1 MiB of entries
    /// each; for an MBR, its sector and all records. Empty if no table is recognised.
    package init(reading disk: any BlockReader, table: PartitionTable) throws(BlockIOError) {
        // The most entries that are followed take 1 MiB; in addition, block 0 and the header,
        // in sectors of up to 4 KiB.
        let limit: UInt64 = 1 << 20 + 64 << 10
        if table.kind == .mbr {
            var records: [Record] = []
            for offset in table.bootRecords ?? [] {
                records.append(.init(offset: offset, bytes: try disk.readBytes(at: offset, count: 512)))
            }
            self.init(
                head: try disk.readBytes(at: 0, count: disk.logicalSectorSize), tail: [], records: records,
                byteCount: disk.byteCount, sectorSize: disk.logicalSectorSize)
            return
        }
        guard table.kind == .gpt else {
            self.init(head: [], tail: [], byteCount: disk.byteCount, sectorSize: disk.logicalSectorSize)
            return
        }
        let sector = UInt64(disk.logicalSectorSize)
        let header = try disk.readBytes(at: sector, count: Int(sector))
        var headCount = min(table.usable.lowerBound, limit)
        typealias Offset = GPTHeaderFields.Offset
        // A damaged header says nothing: then all that partitions may not use is kept.
        if table.condition != .primaryDamaged, let first = try? header.littleEndian(UInt64.self, at: Offset.entriesLBA),
            let count = try? header.littleEndian(UInt32.self, at: Offset.entryCount),
            let size = try? header.littleEndian(UInt32.self, at: Offset.entrySize), first < limit / sector
        {
            let end = first * sector + UInt64(count) * UInt64(size)
            headCount = min(headCount, end.roundedUp(toMultipleOf: sector) ?? headCount)
        }
        let tailCount = min(disk.byteCount - min(table.usable.upperBound, disk.byteCount), limit)
        self.init(
            head: try disk.readBytes(at: 0, count: Int(headCount)),
            tail: try disk.readBytes(at: disk.byteCount - tailCount, count: Int(tailCount)), byteCount: disk.byteCount,
            sectorSize: disk.logicalSectorSize)
    }

    /// Whether the protective MBR of a GPT lists partitions beside its own entry.
    package var isHybrid: Bool { HybridMBR.isHybrid(head) }

    /// The start of `tail` on the disk, in bytes.
    package var tailOffset: UInt64 { byteCount - UInt64(tail.count) }
}
