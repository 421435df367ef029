// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems

/// Adapts a captured MBR to another disk: boot code, disk signature, numbers, types and flags stay; places and the
/// chain of extended boot records (EBRs) are new. Implemented here and not with libparted, which numbers logical
/// partitions by their places, and supports no more than 60 of them (3.5, `libparted/labels/dos.c`).
enum MBREditor {
    static func relocate(
        _ captured: CapturedTable, to geometry: DiskGeometry, partitions: [Int: ByteRange]
    ) throws(TableEditError) -> CapturedTable {
        guard let old = try read(captured) else {
            throw TableEditError("the captured partition table is not a valid MBR")
        }
        for number in partitions.keys where !old.partitions.contains(where: { $0.number == number }) {
            throw TableEditError("the captured table has no partition \(number)")
        }
        let kept = old.partitions.filter { partitions[$0.number] != nil }
        var writer = MBRWriter(captured, places: partitions)
        try writer.write(kept)
        let made = CapturedTable(
            head: writer.head, tail: [], records: writer.records, byteCount: geometry.byteCount,
            sectorSize: captured.sectorSize)
        guard let result = try read(made) else {
            throw TableEditError("the partition table made for this disk is not valid")
        }
        try check(result, kept, partitions, signature: old.diskSignature)
        return made
    }

    private static func read(_ table: CapturedTable) throws(TableEditError) -> PartitionTable? {
        do { return try MBRReader.read(TableBytes(table: table)) } catch {
            throw TableEditError("could not make the partition table: \(error)")
        }
    }

    /// Checks the result with Reforge's own reader: same partitions, at the requested places.
    private static func check(
        _ made: PartitionTable, _ kept: [Partition], _ partitions: [Int: ByteRange], signature: UInt32?
    ) throws(TableEditError) {
        guard made.partitions.count == kept.count, made.diskSignature == signature else {
            throw TableEditError("the partition table made for this disk has other partitions than the captured one")
        }
        var logicals = made.partitions.filter { $0.mbr?.role == .logical }[...]
        for old in kept {
            // A logical partition behind one that was left out now has another number.
            let new =
                old.mbr?.role == .logical
                ? logicals.popFirst() : made.partitions.first { $0.number == old.number }
            guard let new, new.range == partitions[old.number], new.mbr?.type == old.mbr?.type,
                new.mbr?.isActive == old.mbr?.isActive, new.mbr?.role == old.mbr?.role
            else { throw TableEditError("partition \(old.number) did not get the place that was planned for it") }
        }
    }
}

/// A disk that contains only a table.
private struct TableBytes: BlockReader {
    let table: CapturedTable
    var byteCount: UInt64 { table.byteCount }
    var logicalSectorSize: Int { table.sectorSize }
    var name: String { "the partition table" }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let range = try checkedRange(at: offset, count: UInt64(buffer.count))
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        for (start, bytes) in [(UInt64(0), table.head)] + table.records.map({ ($0.offset, $0.bytes) }) {
            let part = range.clamped(to: start..<start + UInt64(bytes.count))
            guard !part.isEmpty else { continue }
            let first = Int(part.lowerBound - start)
            UnsafeMutableRawBufferPointer(rebasing: buffer[Int(part.lowerBound - offset)...])
                .copyBytes(from: bytes[first..<first + Int(part.byteCount)])
        }
    }
}
