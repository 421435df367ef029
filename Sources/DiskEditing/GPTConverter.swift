// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import CParted
import DiskModel
import Filesystems
import SystemPackage

/// Makes the partition table of a disk that starts by the other firmware: a GPT in place of an MBR, one more partition.
///
/// libparted has no calls for GUIDs and numbers, so the bytes are written here, around a captured GPT where there is
/// one; libparted and Reforge's own reader then check them.
enum GPTConverter {
    /// - Parameters:
    ///   - partitions: the places of the captured partitions on the target, by number, in bytes.
    static func convert(
        _ captured: CapturedTable, table: PartitionTable, _ conversion: TableConversion, to geometry: DiskGeometry,
        partitions: [Int: ByteRange], workFolder: FilePath?
    ) throws(TableEditError) -> CapturedTable {
        let made: CapturedTable
        do {
            if let diskGUID = conversion.diskGUID {
                let entries = try entries(table, conversion, partitions)
                made = try new(diskGUID, entries, for: geometry)
            } else {
                let moved = try GPTEditor.relocate(
                    captured, to: geometry, partitions: partitions, workFolder: workFolder)
                made = try adding(conversion, to: moved)
            }
        } catch let error as TableEditError { throw error } catch {
            throw TableEditError("the partition table cannot be converted: \(error)")
        }
        try check(made, conversion, partitions, workFolder)
        return made
    }

    /// The partitions of the new GPT.
    private static func entries(
        _ table: PartitionTable, _ conversion: TableConversion, _ places: [Int: ByteRange]
    ) throws(TableEditError) -> [Partition] {
        var entries: [Partition] = []
        for (number, range) in places {
            guard let entry = conversion.entries[number] else {
                throw TableEditError("partition \(number) has no entry in the new partition table")
            }
            let name = table.partitions.first { $0.number == number }?.name ?? ""
            entries.append(
                Partition(number: number, range: range, typeGUID: entry.typeGUID, guid: entry.guid, name: name))
        }
        return entries + [conversion.added].compactMap { $0 }
    }

    /// A new GPT (UEFI 2.10 §5.3). Block 0 has no boot code: what an MBR started is overwritten by the table.
    private static func new(
        _ diskGUID: GUID, _ partitions: [Partition], for geometry: DiskGeometry
    ) throws -> CapturedTable {
        let sector = geometry.logicalSectorSize
        let unit = UInt64(sector)
        guard [512, 1024, 2048, 4096].contains(sector) else {
            throw TableEditError("a GPT cannot be made for sectors of \(sector) bytes")
        }
        var header = try GPTHeaderFields(diskGUID: diskGUID, entryCount: TableConverter.entryCount)
        var entries = [UInt8](repeating: 0, count: header.entryCount * header.entrySize)
        let entrySectors = UInt64((entries.count + sector - 1) / sector)
        let sectorCount = geometry.byteCount / unit
        guard sectorCount > 3 + 2 * entrySectors else {
            throw TableEditError("the target is too small for a partition table")
        }
        let last = sectorCount - 1
        (header.firstUsableLBA, header.lastUsableLBA) = (2 + entrySectors, last - entrySectors - 1)
        for partition in partitions {
            try put(partition, into: &entries, header, sector)
        }
        header.entriesChecksum = CRC32.iso.checksum(entries)
        let padded = padded(entries, toMultipleOf: sector)
        return CapturedTable(
            head: GPTUnits.protectiveMBR(sectorCount: sectorCount, sectorSize: sector)
                + copy(header, own: 1, other: last, entries: 2, sector) + padded,
            tail: padded + copy(header, own: last, other: 1, entries: last - entrySectors, sector),
            byteCount: sectorCount * unit, sectorSize: sector)
    }

    /// A GPT with the added partition; for a start by BIOS without the boot code, which is for another loader, or for
    /// none.
    private static func adding(_ conversion: TableConversion, to table: CapturedTable) throws -> CapturedTable {
        guard let added = conversion.added else { return table }
        let sector = table.sectorSize
        let unit = UInt64(sector)
        var header = try GPTHeaderFields(try table.head.bytes(at: sector, count: sector))
        guard (1...1024).contains(header.entryCount), (128...4096).contains(header.entrySize),
            let start = Int(exactly: try header.entriesLBA.multiplied(by: unit, "the place of the entries"))
        else { throw TableEditError("the captured partition table cannot take another partition") }
        var entries = try table.head.bytes(at: start, count: header.entryCount * header.entrySize)
        let entryEnd = UInt64(start + entries.count).roundedUp(toMultipleOf: unit) ?? .max
        // sfdisk says that nothing before sector 2048 is usable, whatever the length of its table.
        header.firstUsableLBA = min(header.firstUsableLBA, entryEnd / unit)
        try put(added, into: &entries, header, sector)
        header.entriesChecksum = CRC32.iso.checksum(entries)
        let last = table.byteCount / unit - 1
        let entrySectors = UInt64(padded(entries, toMultipleOf: sector).count / sector)
        var backup = try GPTHeaderFields(try table.tail.bytes(at: table.tail.count - sector, count: sector))
        guard backup.ownLBA == last, header.alternateLBA == last, backup.entryCount == header.entryCount,
            backup.entrySize == header.entrySize, backup.entriesLBA >= table.tailOffset / unit,
            backup.entriesLBA <= last - entrySectors
        else { throw TableEditError("the backup of the partition table is not at the end of the disk") }
        (backup.firstUsableLBA, backup.entriesChecksum) = (header.firstUsableLBA, header.entriesChecksum)
        var result = table
        result.head.replaceSubrange(start..<start + entries.count, with: entries)
        let primary = header.encoded()
        result.head.replaceSubrange(sector..<sector + primary.count, with: primary)
        let tailStart = Int(backup.entriesLBA * unit - table.tailOffset)
        result.tail.replaceSubrange(tailStart..<tailStart + entries.count, with: entries)
        let second = backup.encoded()
        let tailEnd = result.tail.count - sector
        result.tail.replaceSubrange(tailEnd..<tailEnd + second.count, with: second)
        if conversion.goal == .bios {
            result.head.replaceSubrange(
                0..<Self.bootCodeByteCount, with: repeatElement(0, count: Self.bootCodeByteCount))
        }
        // What the captured front has behind the table is overwritten where the partition begins.
        let keptEnd = Int(clamping: min(UInt64(result.head.count), max(added.range.lowerBound, entryEnd)))
        if added.range.lowerBound < UInt64(result.head.count) { result.head.removeLast(result.head.count - keptEnd) }
        return result
    }

    /// The boot code of block 0 (UEFI 2.10 §5.2.1, table 5-1); the disk signature follows.
    private static let bootCodeByteCount = 440

    private static func put(
        _ partition: Partition, into entries: inout [UInt8], _ header: GPTHeaderFields, _ sector: Int
    ) throws(TableEditError) {
        let unit = UInt64(sector)
        guard (1...header.entryCount).contains(partition.number),
            let bytes = partition.gptEntry(sectorSize: sector, byteCount: header.entrySize),
            partition.range.lowerBound / unit >= header.firstUsableLBA,
            partition.range.upperBound / unit - 1 <= header.lastUsableLBA
        else { throw TableEditError("partition \(partition.number) would lie outside of the usable sectors") }
        let place = (partition.number - 1) * header.entrySize
        guard entries[place..<place + 16].allSatisfy({ $0 == 0 }) else {
            throw TableEditError("the partition table already has a partition \(partition.number)")
        }
        entries.replaceSubrange(place..<place + header.entrySize, with: bytes)
    }

    private static func copy(
        _ header: GPTHeaderFields, own: UInt64, other: UInt64, entries: UInt64, _ sector: Int
    ) -> [UInt8] {
        var header = header
        (header.ownLBA, header.alternateLBA, header.entriesLBA) = (own, other, entries)
        return padded(header.encoded(), toMultipleOf: sector)
    }

    private static func padded(_ bytes: [UInt8], toMultipleOf unit: Int) -> [UInt8] {
        let rest = bytes.count % unit
        return rest == 0 ? bytes : bytes + [UInt8](repeating: 0, count: unit - rest)
    }

    /// Checks the made table with libparted, and with Reforge's own reader: these partitions, and no others.
    private static func check(
        _ made: CapturedTable, _ conversion: TableConversion, _ places: [Int: ByteRange], _ workFolder: FilePath?
    ) throws(TableEditError) {
        try PartedStandIn.with(sectorSize: made.sectorSize, workFolder: workFolder) { standIn in
            try standIn.fill(byteCount: made.byteCount, [(0, made.head), (made.tailOffset, made.tail)])
            var expected = places
            if let added = conversion.added { expected[added.number] = added.range }
            guard let table = try GPTReader.read(try standIn.open()), table.condition == .intact else {
                throw TableEditError("the converted partition table is not valid")
            }
            let found = Dictionary(
                table.partitions.map { ($0.number, $0.range) }, uniquingKeysWith: { first, _ in first })
            guard found == expected, found.count == table.partitions.count else {
                throw TableEditError("the converted partition table has other partitions than were planned")
            }
            for partition in table.partitions {
                let entry = conversion.entries[partition.number]
                guard entry == nil || entry?.guid == partition.guid && entry?.typeGUID == partition.typeGUID else {
                    throw TableEditError("partition \(partition.number) did not get its planned GUIDs")
                }
            }
            guard let device = ped_device_get(standIn.path.string) else {
                throw PartedStandIn.failure("open the stand-in")
            }
            defer { ped_device_destroy(device) }
            guard let disk = ped_disk_new(device) else {
                throw PartedStandIn.failure("read the converted partition table")
            }
            defer { ped_disk_destroy(disk) }
            let count = expected.keys.filter { ped_disk_get_partition(disk, Int32(clamping: $0)) != nil }.count
            guard let name = disk.pointee.type?.pointee.name, String(cString: name) == "gpt", count == expected.count
            else { throw TableEditError("libparted does not read the converted partition table") }
        }
    }
}

extension TableEditor {
    /// The table of `captured`, converted for a start by the other firmware.
    /// - Parameters:
    ///   - table: `captured`, parsed.
    ///   - partitions: the places of the captured partitions on the target, by number, in bytes; without an extended
    ///     partition where a GPT replaces an MBR, and without the added one.
    package static func convert(
        _ captured: CapturedTable, table: PartitionTable, _ conversion: TableConversion, to geometry: DiskGeometry,
        partitions: [Int: ByteRange], workFolder: FilePath? = nil
    ) throws(TableEditError) -> CapturedTable {
        try GPTConverter.convert(
            captured, table: table, conversion, to: geometry, partitions: partitions, workFolder: workFolder)
    }
}
