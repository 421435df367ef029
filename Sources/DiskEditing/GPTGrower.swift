// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems

/// Grows the last partition of a GPT to the end of a disk that is larger than the table says: the medium's image was
/// written to a larger stick. Nothing else in the table changes.
///
/// The general partition editor is not used: libparted and libfdisk rewrite block 0 and lose its empty active MBR
/// entry, without which some firmware does not start a stick.
package enum GPTGrower {
    /// One copy of the table, checked.
    struct Copy: Equatable {
        var header: GPTHeaderFields
        var entries: [UInt8]
    }

    /// Grows partition `number`, which must be the last on the disk, to the last MiB boundary that the table can use.
    /// Does nothing if it already ends there. After a power cut at any moment, one copy of the table is intact.
    /// - Returns: the range of the partition, in bytes.
    package static func growLastPartition(
        of disk: any BlockWriter, number: Int
    ) throws(GrowthError) -> ByteRange {
        try GrowthError.naming(disk.name) { try grow(disk, number) }
    }

    private static func grow(_ disk: any BlockWriter, _ number: Int) throws -> ByteRange {
        let sector = UInt64(disk.logicalSectorSize)
        guard sector >= 512, sector <= 4096 else { throw ParsingError.invalid(what: "a sector of \(sector) bytes") }
        let sectorCount = disk.byteCount / sector
        guard sectorCount > 128 else { throw ParsingError.invalid(what: "a disk of \(disk.byteCount) bytes") }
        let lastSector = sectorCount - 1
        let primary = try? copy(on: disk, at: 1)
        let backup = try? copy(on: disk, at: lastSector)
        // A damaged primary and an intact backup in the last sector: a growth that a power cut interrupted.
        guard var table = primary ?? backup else { throw ParsingError.invalid(what: "its partition table") }

        let place = try table.partition(number)
        guard try table.isLast(number, place) else {
            throw ParsingError.invalid(what: "partition \(number), which is not the last one,")
        }
        let entriesByteCount = UInt64(table.entries.count)
        let entrySectors = try entriesByteCount.dividedRoundingUp(by: sector, "the table's size")
        let newLastUsable = lastSector - entrySectors - 1
        guard newLastUsable > place.last else { throw ParsingError.invalid(what: "a table for a larger disk") }
        let unit = max(1, (1 << 20) / sector)
        let end = (newLastUsable + 1).roundedDown(toMultipleOf: unit)
        let newLast = max(place.last, end == 0 ? 0 : end - 1)
        let range = place.first * sector..<(newLast + 1) * sector

        let isComplete =
            primary != nil && table.header.alternateLBA == lastSector && table.header.lastUsableLBA == newLastUsable
            && newLast == place.last && backup?.entries == table.entries
        if isComplete {
            try growProtectiveEntry(disk, lastSector)
            return range
        }

        table.setLast(number, newLast)
        table.header.lastUsableLBA = newLastUsable
        // The new backup first: until it is whole, the old primary counts.
        try disk.writeBytes(padded(table.entries, sector), at: (lastSector - entrySectors) * sector)
        try disk.writeBytes(
            padded(table.encodedHeader(own: lastSector, other: 1, entries: lastSector - entrySectors), sector),
            at: lastSector * sector)
        try disk.flush()
        let primaryEntries: UInt64 = primary?.header.entriesLBA ?? 2
        let newPrimary = padded(table.encodedHeader(own: 1, other: lastSector, entries: primaryEntries), sector)
        if primaryEntries == 2 {
            // In one write; if it is torn, the backup at the end of the disk counts.
            try disk.writeBytes(newPrimary + padded(table.entries, sector), at: sector)
        } else {
            try disk.writeBytes(padded(table.entries, sector), at: primaryEntries * sector)
            try disk.writeBytes(newPrimary, at: sector)
        }
        try disk.flush()
        try growProtectiveEntry(disk, lastSector)
        return range
    }

    /// The size in the 0xEE entry of block 0 (UEFI 2.10 §5.2.3); the other entries and the boot code stay.
    private static func growProtectiveEntry(_ disk: any BlockWriter, _ lastSector: UInt64) throws {
        var block = try disk.readBytes(at: 0, count: disk.logicalSectorSize)
        let size = UInt32(clamping: lastSector)
        guard let entries = MasterBootRecord(block)?.entries, let index = entries.firstIndex(where: \.isProtective),
            entries[index].sectorCount != size
        else { return }
        typealias Entry = MasterBootRecord.Entry
        block.setLittleEndian(
            size, at: MasterBootRecord.entriesOffset + index * Entry.byteCount + Entry.Offset.sectorCount)
        try disk.writeBytes(block, at: 0)
        try disk.flush()
    }

    /// Reads and checks one copy of the table.
    static func copy(on disk: any BlockReader, at place: UInt64) throws -> Copy {
        let sector = UInt64(disk.logicalSectorSize)
        let header = try GPTHeaderFields(try disk.readBytes(at: place * sector, count: Int(sector)))
        guard (1...1024).contains(header.entryCount), (128...1024).contains(header.entrySize),
            header.entrySize % 8 == 0
        else {
            throw ParsingError.invalid(what: "a GPT of \(header.entryCount) entries of \(header.entrySize) bytes")
        }
        let entriesAt = try header.entriesLBA.multiplied(by: sector, "the place of the GPT's entries")
        let entries = try disk.readBytes(at: entriesAt, count: header.entryCount * header.entrySize)
        guard CRC32.iso.checksum(entries) == header.entriesChecksum else {
            throw ParsingError.invalid(what: "the checksum of the GPT's entries")
        }
        guard header.ownLBA == place, header.firstUsableLBA > 1, header.firstUsableLBA <= header.lastUsableLBA,
            header.lastUsableLBA < disk.byteCount / sector
        else { throw ParsingError.invalid(what: "a GPT header") }
        return Copy(header: header, entries: entries)
    }

    private static func padded(_ bytes: [UInt8], _ sector: UInt64) -> [UInt8] {
        let rest = bytes.count % Int(sector)
        return rest == 0 ? bytes : bytes + [UInt8](repeating: 0, count: Int(sector) - rest)
    }
}

extension GPTGrower.Copy {
    private func start(of number: Int) -> Int { (number - 1) * header.entrySize }

    /// The first and last sector of a partition.
    func partition(_ number: Int) throws(ParsingError) -> (first: UInt64, last: UInt64) {
        guard (1...header.entryCount).contains(number) else { throw .invalid(what: "partition number \(number)") }
        let first: UInt64 = try entries.littleEndian(at: start(of: number) + GPTEntryOffset.firstLBA)
        let last: UInt64 = try entries.littleEndian(at: start(of: number) + GPTEntryOffset.lastLBA)
        guard try !isUnused(number), first >= header.firstUsableLBA, first <= last, last <= header.lastUsableLBA else {
            throw .invalid(what: "the place of partition \(number)")
        }
        return (first, last)
    }

    private func isUnused(_ number: Int) throws(ParsingError) -> Bool {
        try entries.bytes(at: start(of: number) + GPTEntryOffset.type, count: 16).allSatisfy { $0 == 0 }
    }

    /// Whether every other partition ends before this one starts.
    func isLast(_ number: Int, _ place: (first: UInt64, last: UInt64)) throws(ParsingError) -> Bool {
        for other in 1...header.entryCount where other != number {
            if try !isUnused(other), try partition(other).last >= place.first { return false }
        }
        return true
    }

    mutating func setLast(_ number: Int, _ last: UInt64) {
        entries.setLittleEndian(last, at: start(of: number) + GPTEntryOffset.lastLBA)
        header.entriesChecksum = CRC32.iso.checksum(entries)
    }

    /// The header of one of the two copies.
    func encodedHeader(own: UInt64, other: UInt64, entries entriesLBA: UInt64) -> [UInt8] {
        var header = header
        (header.ownLBA, header.alternateLBA, header.entriesLBA) = (own, other, entriesLBA)
        return header.encoded()
    }
}
