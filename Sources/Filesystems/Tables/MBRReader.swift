// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Reads MBR partition tables with their extended boot records, by the rules of the Linux kernel
/// (`block/partitions/msdos.c`), which detects more partitions than other systems.
package enum MBRReader {
    /// The content of block 0.
    enum Finding: Equatable {
        /// A table with valid entries only.
        case table(PartitionTable)
        /// A table that is not followed; the text describes it, as in "the table is not understood (…)".
        case unclear(String)
    }

    /// The types of an extended partition (kernel, `include/linux/msdos_partition.h`: DOS, WIN98, LINUX).
    static let extendedTypes: Set<UInt8> = [0x05, 0x0F, 0x85]
    /// The kernel's limit of partitions per disk.
    static let partitionLimit = 256

    /// The table on a disk; `nil` if block 0 has no supported one.
    package static func read(_ disk: any BlockReader) throws(BlockIOError) -> PartitionTable? {
        guard case .table(let table) = try finding(on: disk) else { return nil }
        return table
    }

    /// Whether every entry of block 0 describes the volume that starts there: mtools writes such
    /// an entry to floppy disks.
    static func namesOnlyItself(_ disk: any BlockReader) throws(BlockIOError) -> Bool {
        let record = MasterBootRecord(try disk.readBytes(at: 0, count: 512))
        return record?.entries.filter { !$0.isEmpty }.allSatisfy { $0.startLBA == 0 } ?? false
    }

    /// The content of block 0; `nil` if it is no MBR with partitions.
    static func finding(on disk: any BlockReader) throws(BlockIOError) -> Finding? {
        let unit = UInt64(clamping: disk.logicalSectorSize)
        guard unit >= 512, unit <= 4096, unit & (unit - 1) == 0, disk.byteCount >= unit else { return nil }
        let sector = try disk.readBytes(at: 0, count: 512)
        guard let record = MasterBootRecord(sector), record.isPlausibleTable else { return nil }
        var walk = MBRWalk(disk: disk, unit: unit)
        do throws(MBRProblem) {
            try walk.addPrimaries(record)
            try walk.addLogicals()
            return .table(try walk.table(signature: record.diskSignature))
        } catch {
            switch error {
            case .unclear(let what): return .unclear("MBR \(what)")
            case .io(let error): throw error
            }
        }
    }
}

/// Why a table is not followed.
private enum MBRProblem: Error {
    case unclear(String)
    case io(BlockIOError)
}

/// One pass over a table: collects partitions, and stops at the first invalid entry.
private struct MBRWalk {
    let disk: any BlockReader
    let unit: UInt64
    private var partitions: [Partition] = []
    private var bootRecords: [UInt64] = []

    init(disk: any BlockReader, unit: UInt64) {
        self.disk = disk
        self.unit = unit
    }

    /// Types of partitions with further places on the whole disk: a GPT, the database of a Windows dynamic disk in the
    /// disk's last MiB, a disklabel. Such a disk is left unchanged.
    private static let holdsMore: [UInt8: String] = [
        0xEE: "with a protective entry", 0x42: "of a Windows dynamic disk", 0xA5: "with a BSD disklabel",
        0xA6: "with a BSD disklabel", 0xA9: "with a BSD disklabel", 0xBF: "with a Solaris label",
    ]

    mutating func addPrimaries(_ record: MasterBootRecord) throws(MBRProblem) {
        for (index, entry) in record.entries.enumerated() where !entry.isEmpty {
            let isExtended = MBRReader.extendedTypes.contains(entry.type)
            if let what = Self.holdsMore[entry.type] { throw .unclear(what) }
            try add(entry, number: index + 1, base: 0, role: isExtended ? .extended : .primary)
        }
        guard partitions.filter({ !$0.isVolume }).count <= 1 else {
            throw .unclear("with several extended partitions")
        }
    }

    /// Follows the chain of extended boot records: each contains one logical partition, relative to the record itself,
    /// and a link to the next record, relative to the start of the extended partition.
    mutating func addLogicals() throws(MBRProblem) {
        guard let extended = partitions.first(where: { !$0.isVolume })?.range else { return }
        var place = extended.lowerBound
        while true {
            // The unit is a power of two, so a record is inside one sector of the disk.
            guard place <= extended.upperBound - unit, !bootRecords.contains(place) else {
                throw .unclear("whose chain of extended boot records does not end")
            }
            bootRecords.append(place)
            let bytes: [UInt8]
            do { bytes = try disk.readBytes(at: place, count: 512) } catch { throw .io(error) }
            guard let record = MasterBootRecord(bytes) else {
                // A new extended partition without logical partitions has no record yet.
                if bootRecords.count == 1, bytes.allSatisfy({ $0 == 0 }) { return }
                throw .unclear("with a damaged extended boot record at byte \(place)")
            }
            guard record.entries.dropFirst(2).allSatisfy(\.isEmpty) else {
                throw .unclear("with an extended boot record of more than two entries at byte \(place)")
            }
            let used = record.entries.filter { !$0.isEmpty }
            let links = used.filter { MBRReader.extendedTypes.contains($0.type) }
            let logicals = used.filter { !MBRReader.extendedTypes.contains($0.type) }
            guard links.count <= 1, logicals.count <= 1 else {
                throw .unclear("with two entries of one kind in the extended boot record at byte \(place)")
            }
            if let logical = logicals.first {
                let number = 5 + partitions.count { $0.mbr?.role == .logical }
                guard number <= MBRReader.partitionLimit else { throw .unclear("with too many partitions") }
                try add(logical, number: number, base: place, role: .logical, recordOffset: place)
            }
            guard let link = links.first else { return }
            guard bootRecords.count < MBRReader.partitionLimit else { throw .unclear("with too many partitions") }
            let (next, overflow) = extended.lowerBound.addingReportingOverflow(UInt64(link.startLBA) * unit)
            guard !overflow else { throw .unclear("whose chain of extended boot records leaves its partition") }
            place = next
        }
    }

    private mutating func add(
        _ entry: MasterBootRecord.Entry, number: Int, base: UInt64, role: Partition.MBREntry.Role,
        recordOffset: UInt64? = nil
    ) throws(MBRProblem) {
        let start = base + UInt64(entry.startLBA) * unit
        let end = start + UInt64(entry.sectorCount) * unit
        guard entry.startLBA > 0 else { throw .unclear("whose partition \(number) starts at its own record") }
        guard end <= disk.byteCount else { throw .unclear("whose partition \(number) ends past the disk") }
        partitions.append(
            Partition(
                number: number, range: start..<end, typeGUID: MBRType.equivalent(of: entry.type), guid: .zero,
                mbr: .init(
                    role: role, type: entry.type, isActive: entry.bootIndicator & 0x80 != 0, recordOffset: recordOffset)
            ))
    }

    /// The table, if its partitions do not overlap.
    func table(signature: UInt32) throws(MBRProblem) -> PartitionTable {
        let extended = partitions.first { !$0.isVolume }?.range
        for logical in partitions where logical.mbr?.role == .logical {
            guard let extended, extended.covers(logical.range) else {
                throw .unclear("whose partition \(logical.number) leaves the extended partition")
            }
        }
        let outer = partitions.filter { $0.mbr?.role != .logical }.map(\.range)
        let records = bootRecords.map { $0..<$0 + unit }
        let inner = partitions.filter { $0.mbr?.role == .logical }.map(\.range) + records
        for ranges in [outer, inner] {
            let sorted = ranges.sorted { $0.lowerBound < $1.lowerBound }
            guard zip(sorted, sorted.dropFirst()).allSatisfy({ $0.upperBound <= $1.lowerBound }) else {
                throw .unclear("with overlapping partitions")
            }
        }
        return PartitionTable(
            kind: .mbr, diskSignature: signature, bootRecords: bootRecords, usable: unit..<max(unit, disk.byteCount),
            entryCount: 4, partitions: partitions)
    }
}
