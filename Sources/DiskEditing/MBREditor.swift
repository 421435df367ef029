// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
internal import CParted
import DiskModel
import Filesystems
import LinuxSystem
import SystemPackage

/// Makes a captured MBR fit another disk: libparted lays out a new one (the chain of extended boot records, the CHS
/// addresses), and what it would not keep comes back from the captured bytes: boot code, disk signature, types, flags.
enum MBREditor {
    /// libparted numbers no partition higher than 64 (3.5, `libparted/labels/dos.c`, next_logical).
    private static let mostLogicals = 60

    static func relocate(
        _ captured: CapturedTable, to geometry: DiskGeometry, partitions: [Int: ByteRange], workFolder: FilePath?
    ) throws(TableEditError) -> CapturedTable {
        try PartedStandIn.with(sectorSize: captured.sectorSize, workFolder: workFolder) { standIn in
            try standIn.fill(
                byteCount: captured.byteCount,
                [(0, captured.head)] + captured.records.map { ($0.offset, $0.bytes) })
            guard let old = try MBRReader.read(try standIn.open()) else {
                throw TableEditError("the captured partition table is not a valid MBR")
            }
            let kept = try kept(old, partitions)
            try standIn.fill(byteCount: geometry.byteCount, [])
            try layOut(standIn, kept, partitions)
            let made = try restoreFacts(standIn, captured, kept)
            try check(made, kept, partitions, signature: old.diskSignature)
            return try CapturedTable(reading: try standIn.open(), table: made)
        }
    }

    /// The partitions that stay, in the order in which libparted must get them.
    private static func kept(_ old: PartitionTable, _ partitions: [Int: ByteRange]) throws(TableEditError)
        -> [Partition]
    {
        for number in partitions.keys where !old.partitions.contains(where: { $0.number == number }) {
            throw TableEditError("the captured table has no partition \(number)")
        }
        let kept = old.partitions.filter { partitions[$0.number] != nil }
        let logicalCount = kept.filter { $0.mbr?.role == .logical }.count
        guard logicalCount <= mostLogicals else {
            throw TableEditError(
                "libparted makes no more than \(mostLogicals) logical partitions, and there are \(logicalCount): restore them "
                    + "where they were (a target that is large enough, `--layout keep`), or leave some out (--partition N=drop)"
            )
        }
        // libparted numbers logical partitions by their place: another order would give them other numbers.
        let starts = kept.filter { $0.mbr?.role == .logical }.map { partitions[$0.number]?.lowerBound ?? 0 }
        guard zip(starts, starts.dropFirst()).allSatisfy({ $0 < $1 }) else {
            throw TableEditError(
                "the logical partitions are not numbered in the order of their places, and would get other numbers: "
                    + "restore them where they were (a target that is large enough, `--layout keep`)")
        }
        return kept
    }

    private static func layOut(
        _ standIn: borrowing PartedStandIn, _ kept: [Partition], _ partitions: [Int: ByteRange]
    ) throws {
        guard let device = ped_device_get(standIn.path.string) else {
            throw PartedStandIn.failure("open the stand-in")
        }
        defer { ped_device_destroy(device) }
        guard let type = ped_disk_type_get("msdos"), let disk = ped_disk_new_fresh(device, type) else {
            throw PartedStandIn.failure("make a partition table")
        }
        defer { ped_disk_destroy(disk) }
        // Only then a partition may start and end anywhere.
        _ = ped_disk_set_flag(disk, PED_DISK_CYLINDER_ALIGNMENT, 0)
        let sector = UInt64(standIn.sectorSize)
        for partition in kept {
            guard let range = partitions[partition.number], range.lowerBound % sector == 0,
                range.upperBound % sector == 0, !range.isEmpty
            else { throw TableEditError("partition \(partition.number) would not start or end on a sector") }
            let kind =
                switch partition.mbr?.role {
                case .extended: PED_PARTITION_EXTENDED
                case .logical: PED_PARTITION_LOGICAL
                default: PED_PARTITION_NORMAL
                }
            let first = PedSector(range.lowerBound / sector)
            let last = PedSector(range.upperBound / sector) - 1
            guard let made = ped_partition_new(disk, kind, nil, first, last) else {
                throw PartedStandIn.failure("make partition \(partition.number)")
            }
            if partition.mbr?.role != .logical { made.pointee.num = Int32(clamping: partition.number) }
            guard let geometry = ped_geometry_new(device, first, last - first + 1),
                let constraint = ped_constraint_exact(geometry)
            else { throw PartedStandIn.failure("place partition \(partition.number)") }
            defer {
                ped_constraint_destroy(constraint)
                ped_geometry_destroy(geometry)
            }
            guard ped_disk_add_partition(disk, made, constraint) != 0 else {
                throw PartedStandIn.failure("place partition \(partition.number)")
            }
        }
        guard ped_disk_commit_to_dev(disk) != 0 else { throw PartedStandIn.failure("write the table") }
    }

    /// Puts back what only the captured bytes know (UEFI 2.10 §5.2.1: boot code, signature and what lies between them up to
    /// byte 446; an entry's indicator at 0, its type at 4), and reads the result.
    private static func restoreFacts(
        _ standIn: borrowing PartedStandIn, _ captured: CapturedTable, _ kept: [Partition]
    ) throws -> PartitionTable {
        guard let laidOut = try MBRReader.read(try standIn.open()) else {
            throw TableEditError("libparted left no valid MBR behind")
        }
        let disk = try BlockDevice(opening: standIn.path, .exclusiveWrite, sectorSize: standIn.sectorSize)
        var block = try disk.readBytes(at: 0, count: standIn.sectorSize)
        let head = captured.head
        guard head.count == block.count else { throw TableEditError("the captured MBR has \(head.count) bytes") }
        block.replaceSubrange(0..<446, with: head[0..<446])
        block.replaceSubrange(512..., with: head[512...])
        let logicals = laidOut.partitions.filter { $0.mbr?.role == .logical }
        var logicalIndex = 0
        for partition in kept {
            guard let entry = partition.mbr else { continue }
            let indicator: UInt8 = entry.isActive ? 0x80 : 0
            if entry.role != .logical {
                let place = 446 + (partition.number - 1) * 16
                block[place] = indicator
                block[place + 4] = entry.type
                continue
            }
            guard logicalIndex < logicals.count, let offset = logicals[logicalIndex].mbr?.recordOffset else {
                throw TableEditError("partition \(partition.number) got no boot record")
            }
            logicalIndex += 1
            var record = try disk.readBytes(at: offset, count: standIn.sectorSize)
            record[446] = indicator
            record[446 + 4] = entry.type
            try disk.writeBytes(record, at: offset)
        }
        try disk.writeBytes(block, at: 0)
        try disk.flush()
        guard let made = try MBRReader.read(disk) else {
            throw TableEditError("the partition table made for this disk is not valid")
        }
        return made
    }

    /// Our own reader's word on the result: same partitions, at the places that were asked for.
    private static func check(
        _ made: PartitionTable, _ kept: [Partition], _ partitions: [Int: ByteRange], signature: UInt32?
    ) throws(TableEditError) {
        guard made.partitions.count == kept.count, made.diskSignature == signature else {
            throw TableEditError("the partition table made for this disk has other partitions than the captured one")
        }
        var logicals = made.partitions.filter { $0.mbr?.role == .logical }[...]
        for old in kept {
            // A logical partition behind one that was left out has another number now.
            let new =
                old.mbr?.role == .logical
                ? logicals.popFirst() : made.partitions.first { $0.number == old.number }
            guard let new, new.range == partitions[old.number], new.mbr?.type == old.mbr?.type,
                new.mbr?.isActive == old.mbr?.isActive, new.mbr?.role == old.mbr?.role
            else { throw TableEditError("partition \(old.number) did not get the place that was planned for it") }
        }
    }
}
