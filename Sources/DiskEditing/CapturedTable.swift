// SPDX-License-Identifier: GPL-3.0-or-later
public import DiskModel

/// The raw bytes of a partition table: the front of a disk and its end, as far as partitions may not use them.
public struct CapturedTable: Codable, Equatable, Sendable {
    /// Bytes from the start of the disk (GPT: block 0, the header, the entries).
    public var head: [UInt8]
    /// Bytes up to the end of the disk (GPT: the backup entries and header).
    public var tail: [UInt8]
    /// The length of the disk in bytes.
    public var byteCount: UInt64
    /// The logical sector size in bytes.
    public var sectorSize: Int

    /// From bytes.
    public init(head: [UInt8], tail: [UInt8], byteCount: UInt64, sectorSize: Int) {
        self.head = head
        self.tail = tail
        self.byteCount = byteCount
        self.sectorSize = sectorSize
    }

    /// Reads what lies outside the usable bytes of `table`; at most 1 MiB at either end.
    public init(reading disk: any BlockReader, table: PartitionTable) throws(BlockIOError) {
        let limit: UInt64 = 1 << 20
        let headCount = min(table.usable.lowerBound, limit, disk.byteCount)
        let tailCount = min(disk.byteCount - min(table.usable.upperBound, disk.byteCount), limit)
        head = try disk.readBytes(at: 0, count: Int(headCount))
        tail = try disk.readBytes(at: disk.byteCount - tailCount, count: Int(tailCount))
        byteCount = disk.byteCount
        sectorSize = disk.logicalSectorSize
    }

    /// Where `tail` starts on the disk, in bytes.
    public var tailOffset: UInt64 { byteCount - UInt64(tail.count) }
}
