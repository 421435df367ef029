// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import JobModel

/// Makes the last partition of a GPT end at the end of a disk that is larger than the table thinks: the medium's image
/// was written to a larger stick. Nothing else in the table changes.
///
/// Why not the general partition editor: libparted and libfdisk write block 0 anew and lose its empty active MBR entry,
/// without which some firmware does not start a stick.
package enum GPTGrower {
    /// The fields of a header that matter here (UEFI 2.10 §5.3.2, table 5-5), checked.
    struct Header: Equatable {
        var bytes: [UInt8]
        var entries: [UInt8]
        var ownSector: UInt64
        var otherSector: UInt64
        var firstUsable: UInt64
        var lastUsable: UInt64
        var entriesSector: UInt64
        var entryCount: Int
        var entrySize: Int
    }

    /// Lets partition `number`, which must be the last on the disk, end at the last MiB boundary that the table may use.
    /// Does nothing where it does already. Power cuts leave one whole table at every time.
    /// - Returns: where the partition lies, in bytes.
    /// - Throws: status 74 where reading or writing failed, 65 where the table is not as expected (nothing is written).
    package static func growLastPartition(
        of disk: any BlockWriter, number: Int
    ) throws(JobFailure) -> ByteRange {
        do {
            return try grow(disk, number)
        } catch let error as ParsingError {
            throw JobFailure(.badImage, "\(disk.name): \(error)")
        } catch let error as BlockIOError {
            throw JobFailure(.ioError, "\(error)")
        } catch {
            throw JobFailure(.ioError, "\(error)")
        }
    }

    private static func grow(_ disk: any BlockWriter, _ number: Int) throws -> ByteRange {
        let sector = UInt64(disk.logicalSectorSize)
        guard sector >= 512, sector <= 4096 else { throw ParsingError.invalid(what: "a sector of \(sector) bytes") }
        let sectorCount = disk.byteCount / sector
        guard sectorCount > 128 else { throw ParsingError.invalid(what: "a disk of \(disk.byteCount) bytes") }
        let lastSector = sectorCount - 1
        let primary = try? header(of: disk, at: 1)
        let backup = try? header(of: disk, at: lastSector)
        // A damaged primary beside a good backup at the very end: a growth that lost its power.
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
            primary != nil && table.otherSector == lastSector && table.lastUsable == newLastUsable
            && newLast == place.last && backup?.entries == table.entries
        if isComplete {
            try growProtectiveEntry(disk, lastSector)
            return range
        }

        table.setLast(number, newLast)
        table.lastUsable = newLastUsable
        // The new backup first: until it is whole, the old primary counts.
        try disk.writeBytes(padded(table.entries, sector), at: (lastSector - entrySectors) * sector)
        try disk.writeBytes(
            padded(table.encoded(own: lastSector, other: 1, entries: lastSector - entrySectors), sector),
            at: lastSector * sector)
        try disk.flush()
        let primaryEntries: UInt64 = primary?.entriesSector ?? 2
        let newPrimary = padded(table.encoded(own: 1, other: lastSector, entries: primaryEntries), sector)
        if primaryEntries == 2 {
            // In one write, and while it is torn the backup at the disk's end counts.
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
        guard try block.littleEndian(UInt16.self, at: 510) == 0xAA55 else { return }
        for entry in 0..<4 {
            let at = 446 + 16 * entry
            guard block[at + 4] == 0xEE, try block.littleEndian(UInt32.self, at: at + 8) == 1 else { continue }
            let size = UInt32(clamping: lastSector)
            guard try block.littleEndian(UInt32.self, at: at + 12) != size else { return }
            block.setLittleEndian(size, at: at + 12)
            try disk.writeBytes(block, at: 0)
            try disk.flush()
            return
        }
    }

    /// Reads and checks one copy of the table.
    static func header(of disk: any BlockReader, at place: UInt64) throws -> Header {
        let sector = UInt64(disk.logicalSectorSize)
        let bytes = try disk.readBytes(at: place * sector, count: Int(sector))
        guard try bytes.littleEndian(UInt64.self, at: 0) == 0x5452_4150_2049_4645 else {  // "EFI PART"
            throw ParsingError.invalid(what: "a GPT header")
        }
        let size = Int(try bytes.littleEndian(UInt32.self, at: 12))
        guard size >= 92, size <= bytes.count else { throw ParsingError.invalid(what: "a GPT header of \(size) bytes") }
        var own = try bytes.bytes(at: 0, count: size)
        own.setLittleEndian(UInt32(0), at: 16)
        guard CRC32.iso.checksum(own) == (try bytes.littleEndian(UInt32.self, at: 16)) else {
            throw ParsingError.invalid(what: "the checksum of a GPT header")
        }
        let entryCount = Int(try bytes.littleEndian(UInt32.self, at: 80))
        let entrySize = Int(try bytes.littleEndian(UInt32.self, at: 84))
        guard (1...1024).contains(entryCount), (128...1024).contains(entrySize), entrySize % 8 == 0 else {
            throw ParsingError.invalid(what: "a GPT of \(entryCount) entries of \(entrySize) bytes")
        }
        let entriesSector = try bytes.littleEndian(UInt64.self, at: 72)
        let entriesAt = try entriesSector.multiplied(by: sector, "the place of the GPT's entries")
        let entries = try disk.readBytes(at: entriesAt, count: entryCount * entrySize)
        guard CRC32.iso.checksum(entries) == (try bytes.littleEndian(UInt32.self, at: 88)) else {
            throw ParsingError.invalid(what: "the checksum of the GPT's entries")
        }
        let header = Header(
            bytes: try bytes.bytes(at: 0, count: size), entries: entries,
            ownSector: try bytes.littleEndian(at: 24), otherSector: try bytes.littleEndian(at: 32),
            firstUsable: try bytes.littleEndian(at: 40), lastUsable: try bytes.littleEndian(at: 48),
            entriesSector: entriesSector, entryCount: entryCount, entrySize: entrySize)
        guard header.ownSector == place, header.firstUsable > 1, header.firstUsable <= header.lastUsable,
            header.lastUsable < disk.byteCount / sector
        else { throw ParsingError.invalid(what: "a GPT header") }
        return header
    }

    private static func padded(_ bytes: [UInt8], _ sector: UInt64) -> [UInt8] {
        let rest = bytes.count % Int(sector)
        return rest == 0 ? bytes : bytes + [UInt8](repeating: 0, count: Int(sector) - rest)
    }
}

extension GPTGrower.Header {
    /// The first and last sector of a partition (UEFI 2.10 §5.3.3, table 5-6).
    func partition(_ number: Int) throws(ParsingError) -> (first: UInt64, last: UInt64) {
        guard (1...entryCount).contains(number) else { throw .invalid(what: "partition number \(number)") }
        let at = (number - 1) * entrySize
        let first: UInt64 = try entries.littleEndian(at: at + 32)
        let last: UInt64 = try entries.littleEndian(at: at + 40)
        guard try !isUnused(number), first >= firstUsable, first <= last, last <= lastUsable else {
            throw .invalid(what: "the place of partition \(number)")
        }
        return (first, last)
    }

    private func isUnused(_ number: Int) throws(ParsingError) -> Bool {
        try entries.bytes(at: (number - 1) * entrySize, count: 16).allSatisfy { $0 == 0 }
    }

    /// Whether every other partition ends before this one starts.
    func isLast(_ number: Int, _ place: (first: UInt64, last: UInt64)) throws(ParsingError) -> Bool {
        for other in 1...entryCount where other != number {
            if try !isUnused(other), try partition(other).last >= place.first { return false }
        }
        return true
    }

    mutating func setLast(_ number: Int, _ last: UInt64) {
        entries.setLittleEndian(last, at: (number - 1) * entrySize + 40)
    }

    /// The header for one of the two places, with its checksums.
    func encoded(own: UInt64, other: UInt64, entries entriesSector: UInt64) -> [UInt8] {
        var result = bytes
        result.setLittleEndian(own, at: 24)
        result.setLittleEndian(other, at: 32)
        result.setLittleEndian(lastUsable, at: 48)
        result.setLittleEndian(entriesSector, at: 72)
        result.setLittleEndian(CRC32.iso.checksum(entries), at: 88)
        result.setLittleEndian(UInt32(0), at: 16)
        result.setLittleEndian(CRC32.iso.checksum(result), at: 16)
        return result
    }
}
