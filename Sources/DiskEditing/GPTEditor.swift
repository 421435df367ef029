// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import CParted
import DiskModel
import Filesystems
import LinuxSystem
import SystemPackage

/// Adapts a captured GPT to another disk through libparted. libparted has no call to set GUIDs, so the captured table
/// is opened and its partitions are moved, which keeps them.
enum GPTEditor {
    static func relocate(
        _ captured: CapturedTable, to geometry: DiskGeometry, partitions: [Int: ByteRange], workFolder: FilePath?
    ) throws(TableEditError) -> CapturedTable {
        guard captured.sectorSize == geometry.logicalSectorSize else {
            return try reissue(captured, for: geometry, partitions: partitions, workFolder: workFolder)
        }
        return try PartedStandIn.with(sectorSize: captured.sectorSize, workFolder: workFolder) { standIn in
            // First at the captured size, so that an intact backup, at its regular position, repairs a damaged primary.
            try fill(standIn, captured, byteCount: captured.byteCount)
            try edit(standIn, moving: nil)
            let mended = try readBack(standIn, captured)
            guard let old = try GPTReader.read(try standIn.open()) else {
                throw TableEditError("libparted produced no valid GPT")
            }
            // Then on a disk with room for the old and the new ranges, and finally at the size of the target.
            var table = mended
            let lengths = geometry.byteCount < captured.byteCount ? [captured.byteCount] : []
            for byteCount in lengths + [geometry.byteCount] {
                try fill(standIn, table, byteCount: byteCount)
                try edit(standIn, moving: partitions)
                table.byteCount = byteCount
                table = try readBack(standIn, table)
            }
            table.head = HybridMBR.reapplied(
                captured.head, onto: table.head, old: old, places: partitions, sectorSize: captured.sectorSize,
                byteCount: geometry.byteCount)
            try check(standIn, old, partitions)
            return table
        }
    }

    /// Adapts the table to another sector size: the captured table is repaired at its original size and rewritten in
    /// the other unit; then libparted and Reforge's own reader check it.
    private static func reissue(
        _ captured: CapturedTable, for geometry: DiskGeometry, partitions: [Int: ByteRange], workFolder: FilePath?
    ) throws(TableEditError) -> CapturedTable {
        let (old, converted) = try PartedStandIn.with(sectorSize: captured.sectorSize, workFolder: workFolder) {
            standIn in
            try fill(standIn, captured, byteCount: captured.byteCount)
            try edit(standIn, moving: nil)
            guard let old = try GPTReader.read(try standIn.open()) else {
                throw TableEditError("libparted produced no valid GPT")
            }
            let mended = try readBack(standIn, captured)
            return (old, try GPTUnits.converted(mended, to: geometry, places: partitions))
        }
        return try PartedStandIn.with(sectorSize: converted.sectorSize, workFolder: workFolder) { standIn in
            try fill(standIn, converted, byteCount: converted.byteCount)
            try edit(standIn, moving: partitions)
            try check(standIn, old, partitions)
            return try readBack(standIn, converted)
        }
    }

    private static func fill(_ standIn: borrowing PartedStandIn, _ table: CapturedTable, byteCount: UInt64) throws {
        if byteCount < table.byteCount {
            // The old backup is beyond the end, and libparted fails if it cannot read there: the primary gets the new
            // end, and the missing backup is rebuilt from it.
            try standIn.fill(byteCount: byteCount, [(0, try headNaming(table, byteCount: byteCount))])
        } else {
            try standIn.fill(byteCount: byteCount, [(0, table.head), (table.tailOffset, table.tail)])
        }
    }

    /// The front of a table with its disk end changed (UEFI 2.10 §5.3.2).
    private static func headNaming(_ table: CapturedTable, byteCount: UInt64) throws -> [UInt8] {
        var head = table.head
        let sector = table.sectorSize
        typealias Offset = GPTHeaderFields.Offset
        let headerByteCount = Int(try head.littleEndian(UInt32.self, at: sector + Offset.headerSize))
        let lastUsable = try head.littleEndian(UInt64.self, at: sector + Offset.lastUsableLBA)
        let oldLast = table.byteCount / UInt64(sector) - 1
        let newLast = byteCount / UInt64(sector) - 1
        guard headerByteCount >= GPTHeaderFields.leastByteCount, headerByteCount <= sector, lastUsable <= oldLast,
            newLast > oldLast - lastUsable
        else {
            throw TableEditError("the captured partition table does not fit \(byteCount) bytes")
        }
        // The space of the captured backup, or the size of its entries and header if it was not at the end.
        let entryByteCount =
            UInt64(try head.littleEndian(UInt32.self, at: sector + Offset.entryCount))
            * UInt64(try head.littleEndian(UInt32.self, at: sector + Offset.entrySize))
        let reserve = min(oldLast - lastUsable, (entryByteCount + UInt64(sector) - 1) / UInt64(sector) + 1)
        head.setLittleEndian(newLast, at: sector + Offset.alternateLBA)
        head.setLittleEndian(newLast - reserve, at: sector + Offset.lastUsableLBA)
        let checksum = GPTHeaderFields.checksum(try head.bytes(at: sector, count: headerByteCount))
        head.setLittleEndian(checksum, at: sector + Offset.checksum)
        return head
    }

    /// Opens the table, which repairs it, and moves its partitions; those without a place are left out.
    private static func edit(_ standIn: borrowing PartedStandIn, moving places: [Int: ByteRange]?) throws {
        guard let device = ped_device_get(standIn.path.string) else {
            throw PartedStandIn.failure("open the stand-in")
        }
        defer { ped_device_destroy(device) }
        guard let disk = ped_disk_new(device) else { throw PartedStandIn.failure("read the captured partition table") }
        defer { ped_disk_destroy(disk) }
        guard let type = disk.pointee.type, let name = type.pointee.name, String(cString: name) == "gpt" else {
            throw TableEditError("the captured partition table is not a GPT")
        }
        if let places {
            var moves = try PartitionMoves(device, disk, places)
            try moves.run()
        }
        guard ped_disk_commit_to_dev(disk) != 0 else { throw PartedStandIn.failure("write the table") }
    }

    private static func readBack(_ standIn: borrowing PartedStandIn, _ like: CapturedTable) throws -> CapturedTable {
        let disk = try standIn.open()
        guard let table = try GPTReader.read(disk) else {
            throw TableEditError("libparted produced no valid GPT")
        }
        var result = try CapturedTable(reading: disk, table: table)
        // The front keeps at least its captured length: boot code may follow the entries.
        if result.head.count < like.head.count { result.head = try disk.readBytes(at: 0, count: like.head.count) }
        return result
    }

    /// Checks libparted's result with Reforge's own reader: same partitions, at the requested places.
    private static func check(
        _ standIn: borrowing PartedStandIn, _ old: PartitionTable, _ places: [Int: ByteRange]
    ) throws {
        guard let made = try GPTReader.read(try standIn.open()), made.condition == .intact else {
            throw TableEditError("the partition table made for this disk is not valid")
        }
        let kept = old.partitions.filter { places[$0.number] != nil }
        guard made.partitions.count == kept.count, kept.count == places.count, made.diskGUID == old.diskGUID else {
            throw TableEditError("the partition table made for this disk has other partitions than the captured one")
        }
        for (before, after) in zip(kept, made.partitions) {
            guard before.number == after.number, after.range == places[after.number] else {
                throw TableEditError("partition \(before.number) did not get the place that was planned for it")
            }
            guard before.guid == after.guid, before.typeGUID == after.typeGUID, before.name == after.name,
                before.attributes == after.attributes
            else { throw TableEditError("partition \(after.number) did not keep its GUIDs, name and attributes") }
        }
    }
}

/// Moves the partitions of an open table one by one, so that they never overlap. The order of the partitions on
/// the disk must stay the same.
private struct PartitionMoves {
    private let device: UnsafeMutablePointer<PedDevice>
    private let disk: UnsafeMutablePointer<PedDisk>
    private let sectorSize: UInt64
    private let wanted: [Int: ByteRange]
    /// The current ranges of the partitions.
    private var current: [Int: ByteRange] = [:]

    init(
        _ device: UnsafeMutablePointer<PedDevice>, _ disk: UnsafeMutablePointer<PedDisk>, _ wanted: [Int: ByteRange]
    ) throws {
        self.device = device
        self.disk = disk
        self.wanted = wanted
        sectorSize = UInt64(device.pointee.sector_size)
        var partition = ped_disk_next_partition(disk, nil)
        while let here = partition {
            // libparted lists free space and the table itself as partitions without a number.
            if here.pointee.num > 0 {
                let start = UInt64(here.pointee.geom.start) * sectorSize
                current[Int(here.pointee.num)] = start..<start + UInt64(here.pointee.geom.length) * sectorSize
            }
            partition = ped_disk_next_partition(disk, here)
        }
        for (number, range) in wanted {
            guard current[number] != nil else {
                throw TableEditError("the captured table has no partition \(number)")
            }
            guard range.lowerBound % sectorSize == 0, range.upperBound % sectorSize == 0, !range.isEmpty else {
                throw TableEditError("partition \(number) would not start or end on a sector")
            }
        }
    }

    mutating func run() throws {
        for number in current.keys.sorted() where wanted[number] == nil {
            guard let partition = ped_disk_get_partition(disk, Int32(clamping: number)),
                ped_disk_delete_partition(disk, partition) != 0
            else { throw PartedStandIn.failure("leave out partition \(number)") }
            current[number] = nil
        }
        // Meanwhile it keeps the part of its new place that it has already, which leaves the most room for the others.
        for (number, range) in wanted {
            guard let now = current[number], now.overlaps(range) else { continue }
            try place(number, at: now.clamped(to: range))
        }
        while true {
            let pending = wanted.filter { current[$0.key] != $0.value }.keys.sorted()
            guard !pending.isEmpty else { return }
            let free = pending.filter { number in
                guard let range = wanted[number] else { return false }
                return !current.contains { $0.key != number && $0.value.overlaps(range) }
            }
            guard !free.isEmpty else {
                throw TableEditError(
                    "partitions \(pending.map(String.init).joined(separator: ", ")) would swap places")
            }
            for number in free {
                guard let range = wanted[number],
                    !current.contains(where: { $0.key != number && $0.value.overlaps(range) })
                else { continue }
                try place(number, at: range)
            }
        }
    }

    private mutating func place(_ number: Int, at range: ByteRange) throws {
        guard current[number] != range else { return }
        guard let partition = ped_disk_get_partition(disk, Int32(clamping: number)),
            let geometry = ped_geometry_new(
                device, PedSector(range.lowerBound / sectorSize), PedSector(range.byteCount / sectorSize))
        else { throw PartedStandIn.failure("place partition \(number)") }
        defer { ped_geometry_destroy(geometry) }
        guard let constraint = ped_constraint_exact(geometry) else {
            throw PartedStandIn.failure("place partition \(number)")
        }
        defer { ped_constraint_destroy(constraint) }
        guard
            ped_disk_set_partition_geom(disk, partition, constraint, geometry.pointee.start, geometry.pointee.end) != 0
        else { throw PartedStandIn.failure("move partition \(number)") }
        current[number] = range
    }
}
