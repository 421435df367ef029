// SPDX-License-Identifier: GPL-3.0-or-later
internal import ByteParsing
public import DiskModel

/// Reads GUID partition tables (UEFI 2.10 §5.3), with the rules of firmware (EDK2) and the Linux kernel.
public enum GPTReader {
    /// No more entries than this are read; tables have 128 as a rule.
    static let entryCountLimit = 1024
    /// No more bytes of entries than this are read.
    static let entryBytesLimit = 1 << 20

    /// The table on a disk; `nil` where there is none that firmware and kernel would use: a protective MBR must stand
    /// in LBA 0, and the primary copy (LBA 1) or the backup (the last LBA) must be whole.
    public static func read(_ disk: any BlockReader) throws(BlockIOError) -> PartitionTable? {
        guard let unit = sectorSize(of: disk), try hasProtectiveMBR(disk) else { return nil }
        let lastLBA = disk.byteCount / unit - 1
        let primary = try copy(on: disk, at: 1, unit: unit)
        let backup = try copy(on: disk, at: lastLBA, unit: unit)
        if let primary {
            let agrees = backup.map { $0.saysTheSame(as: primary) } ?? false
            return primary.table(agrees && primary.alternateLBA == lastLBA ? .intact : .backupDamaged)
        }
        return backup.map { $0.table(.primaryDamaged) }
    }

    /// Whether a copy that is whole stands in LBA 1, whatever LBA 0 says.
    static func hasPrimaryCopy(_ disk: any BlockReader) throws(BlockIOError) -> Bool {
        guard let unit = sectorSize(of: disk) else { return false }
        return try copy(on: disk, at: 1, unit: unit) != nil
    }

    /// Whether LBA 0 holds a protective MBR: an entry of type 0xEE that starts at LBA 1 (UEFI 2.10 §5.2.3). A hybrid
    /// MBR has others beside it.
    static func hasProtectiveMBR(_ disk: any BlockReader) throws(BlockIOError) -> Bool {
        guard disk.byteCount >= 512 else { return false }
        let record = MasterBootRecord(try disk.readBytes(at: 0, count: 512))
        return record?.entries.contains { $0.type == 0xEE && $0.startLBA == 1 } ?? false
    }

    private static func sectorSize(of disk: any BlockReader) -> UInt64? {
        let unit = UInt64(clamping: disk.logicalSectorSize)
        // Room for LBA 0, both headers, and one sector of entries for each.
        guard unit >= 512, unit <= 1 << 16, unit & (unit - 1) == 0, disk.byteCount / unit >= 5 else { return nil }
        return unit
    }

    private static func copy(
        on disk: any BlockReader, at lba: UInt64, unit: UInt64
    ) throws(BlockIOError) -> GPTCopy? {
        let sector = try disk.readBytes(at: lba * unit, count: Int(unit))
        let diskRange = 0..<disk.byteCount / unit
        guard let header = try? GPTHeader(sector, at: lba, sectorCount: diskRange.upperBound, unit: unit) else {
            return nil
        }
        let entries = try disk.readBytes(at: header.entriesLBA * unit, count: header.entryByteCount)
        guard CRC32.iso.checksum(entries) == header.entriesChecksum else { return nil }
        return try? GPTCopy(header, entries, unit: unit)
    }
}

/// A GPT header (UEFI 2.10 §5.3.2, table 5-5) whose every field was checked. Addresses in sectors.
private struct GPTHeader: Equatable {
    let alternateLBA: UInt64
    let firstUsableLBA: UInt64
    let lastUsableLBA: UInt64
    let diskGUID: GUID
    let entriesLBA: UInt64
    let entryCount: Int
    let entrySize: Int
    let entriesChecksum: UInt32

    var entryByteCount: Int { entryCount * entrySize }

    init(_ sector: [UInt8], at lba: UInt64, sectorCount: UInt64, unit: UInt64) throws(ParsingError) {
        guard try sector.bytes(at: 0, count: 8) == Array("EFI PART".utf8) else { throw .invalid(what: "signature") }
        guard try sector.littleEndian(UInt32.self, at: 8) == 0x0001_0000 else { throw .invalid(what: "revision") }
        let headerSize = Int(try sector.littleEndian(UInt32.self, at: 12))
        guard headerSize >= 92, headerSize <= sector.count else { throw .invalid(what: "header size") }
        var header = try sector.bytes(at: 0, count: headerSize)
        header.setLittleEndian(UInt32(0), at: 16)
        guard CRC32.iso.checksum(header) == (try sector.littleEndian(UInt32.self, at: 16)) else {
            throw .invalid(what: "header checksum")
        }
        guard try sector.littleEndian(UInt64.self, at: 24) == lba else { throw .invalid(what: "MyLBA") }
        alternateLBA = try sector.littleEndian(UInt64.self, at: 32)
        firstUsableLBA = try sector.littleEndian(UInt64.self, at: 40)
        lastUsableLBA = try sector.littleEndian(UInt64.self, at: 48)
        diskGUID = try GUID(mixedEndianBytes: try sector.bytes(at: 56, count: 16))
        entriesLBA = try sector.littleEndian(UInt64.self, at: 72)
        let entryCount = try sector.littleEndian(UInt32.self, at: 80)
        let entrySize = try sector.littleEndian(UInt32.self, at: 84)
        entriesChecksum = try sector.littleEndian(UInt32.self, at: 88)
        // "This value shall be set to a value of 128 x 2^n."
        guard entrySize >= 128, entrySize <= 4096, entrySize & (entrySize - 1) == 0 else {
            throw .invalid(what: "entry size")
        }
        guard entryCount >= 1, entryCount <= GPTReader.entryCountLimit,
            Int(entryCount) * Int(entrySize) <= GPTReader.entryBytesLimit
        else { throw .invalid(what: "entry count") }
        self.entryCount = Int(entryCount)
        self.entrySize = Int(entrySize)
        guard firstUsableLBA >= 2, firstUsableLBA <= lastUsableLBA, lastUsableLBA < sectorCount - 1 else {
            throw .invalid(what: "usable range")
        }
        // The entries lie between a header and the usable range: before it for the primary, after it for the backup.
        let entrySectors = try UInt64(entryByteCount).dividedRoundingUp(by: unit, "entry sectors")
        let entriesEnd = try entriesLBA.adding(entrySectors, "end of the entries")
        let isPrimary = lba == 1
        guard
            isPrimary
                ? entriesLBA >= 2 && entriesEnd <= firstUsableLBA : entriesLBA > lastUsableLBA && entriesEnd <= lba
        else { throw .invalid(what: "place of the entries") }
    }
}

/// One whole copy of a GPT: header and entries.
private struct GPTCopy {
    let header: GPTHeader
    let unit: UInt64
    let partitions: [Partition]

    var alternateLBA: UInt64 { header.alternateLBA }

    /// Entries as in UEFI 2.10 §5.3.3, table 5-6.
    init(_ header: GPTHeader, _ entries: [UInt8], unit: UInt64) throws(ParsingError) {
        var partitions: [Partition] = []
        for index in 0..<header.entryCount {
            let place = index * header.entrySize
            let type = try GUID(mixedEndianBytes: try entries.bytes(at: place, count: 16))
            guard type != .zero else { continue }
            let first = try entries.littleEndian(UInt64.self, at: place + 32)
            let last = try entries.littleEndian(UInt64.self, at: place + 40)
            guard first >= header.firstUsableLBA, first <= last, last <= header.lastUsableLBA else {
                throw .invalid(what: "place of partition \(index + 1)")
            }
            partitions.append(
                Partition(
                    number: index + 1, range: first * unit..<(last + 1) * unit, typeGUID: type,
                    guid: try GUID(mixedEndianBytes: try entries.bytes(at: place + 16, count: 16)),
                    name: try Self.name(entries, at: place + 56),
                    attributes: try entries.littleEndian(UInt64.self, at: place + 48)))
        }
        let ranges = partitions.map(\.range).sorted { $0.lowerBound < $1.lowerBound }
        guard zip(ranges, ranges.dropFirst()).allSatisfy({ $0.upperBound <= $1.lowerBound }) else {
            throw .invalid(what: "overlapping partitions")
        }
        self.header = header
        self.unit = unit
        self.partitions = partitions
    }

    /// "Null-terminated string containing a human-readable name": 36 units of UTF-16.
    private static func name(_ entries: [UInt8], at offset: Int) throws(ParsingError) -> String {
        var units: [UInt16] = []
        for index in 0..<36 {
            let unit = try entries.littleEndian(UInt16.self, at: offset + index * 2)
            if unit == 0 { break }
            units.append(unit)
        }
        return String(decoding: units, as: UTF16.self)
    }

    func saysTheSame(as other: GPTCopy) -> Bool {
        header.diskGUID == other.header.diskGUID && header.entriesChecksum == other.header.entriesChecksum
            && header.entryCount == other.header.entryCount && header.entrySize == other.header.entrySize
            && header.firstUsableLBA == other.header.firstUsableLBA
            && header.lastUsableLBA == other.header.lastUsableLBA
    }

    func table(_ condition: PartitionTable.Condition) -> PartitionTable {
        PartitionTable(
            kind: .gpt, diskGUID: header.diskGUID, condition: condition,
            usable: header.firstUsableLBA * unit..<(header.lastUsableLBA + 1) * unit, entryCount: header.entryCount,
            partitions: partitions)
    }
}
