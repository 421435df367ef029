// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Reads GUID partition tables (UEFI 2.10 §5.3) by the rules of firmware (EDK2) and the Linux kernel.
package enum GPTReader {
    /// The limit of entries that are followed; tables usually have 128.
    static let entryCountLimit = 8192
    /// The limit of bytes of entries that are read.
    static let entryBytesLimit = 1 << 20

    /// The content of a place for a copy of the table.
    private enum Finding {
        /// A valid copy.
        case whole(GPTCopy)
        /// A copy that firmware and kernel would use, but Reforge does not; its description, as in "GPT whose …".
        case unclear(String)
        /// No usable copy, with the problem where it is more than a wrong checksum.
        case none(String?)
    }

    /// The table on a disk; `nil` if there is none that firmware and kernel would use: a protective MBR must be in
    /// LBA 0, and the primary copy (LBA 1) or the backup (the last LBA) must be valid.
    package static func read(_ disk: any BlockReader) throws(BlockIOError) -> PartitionTable? {
        guard let unit = sectorSize(of: disk), try hasProtectiveMBR(disk) else { return nil }
        let lastLBA = disk.byteCount / unit - 1
        let primary = try copy(on: disk, at: 1, unit: unit)
        let backup = try copy(on: disk, at: lastLBA, unit: unit)
        switch (primary, backup) {
        case (.whole(let primary), .whole(let backup)):
            let agrees = backup.saysTheSame(as: primary) && primary.alternateLBA == lastLBA
            return primary.table(agrees ? .intact : .backupDamaged)
        case (.whole(let primary), _): return primary.table(.backupDamaged)
        case (.none, .whole(let backup)): return backup.table(.primaryDamaged)
        // A primary that firmware uses is never replaced by a backup.
        case (.unclear, _), (.none, _): return nil
        }
    }

    /// Why `read` does not follow a table, as in "GPT whose …".
    static func problem(on disk: any BlockReader) throws(BlockIOError) -> String {
        guard let unit = sectorSize(of: disk) else { return "on a disk too short for it" }
        let primary = try copy(on: disk, at: 1, unit: unit)
        if case .unclear(let what) = primary { return what }
        let backup = try copy(on: disk, at: disk.byteCount / unit - 1, unit: unit)
        if case .unclear(let what) = backup { return what }
        if case .none(let what?) = primary { return what }
        if case .none(let what?) = backup { return what }
        return "with both copies damaged"
    }

    /// Whether a valid copy is in LBA 1, whatever LBA 0 contains. Hybrid ISOs have an unclear one without a protective
    /// MBR: no system reads that.
    static func hasPrimaryCopy(_ disk: any BlockReader) throws(BlockIOError) -> Bool {
        guard let unit = sectorSize(of: disk) else { return false }
        if case .whole = try copy(on: disk, at: 1, unit: unit) { return true }
        return false
    }

    /// Whether LBA 0 contains a protective MBR: an entry of type 0xEE that starts at LBA 1 (UEFI 2.10 §5.2.3). A
    /// hybrid MBR has other entries too.
    static func hasProtectiveMBR(_ disk: any BlockReader) throws(BlockIOError) -> Bool {
        guard disk.byteCount >= 512 else { return false }
        let record = MasterBootRecord(try disk.readBytes(at: 0, count: 512))
        return record?.entries.contains(where: \.isProtective) ?? false
    }

    private static func sectorSize(of disk: any BlockReader) -> UInt64? {
        let unit = UInt64(clamping: disk.logicalSectorSize)
        // Room for LBA 0, both headers, and one sector of entries for each.
        guard unit >= 512, unit <= 1 << 16, unit & (unit - 1) == 0, disk.byteCount / unit >= 5 else { return nil }
        return unit
    }

    private static func copy(on disk: any BlockReader, at lba: UInt64, unit: UInt64) throws(BlockIOError) -> Finding {
        let sector = try disk.readBytes(at: lba * unit, count: Int(unit))
        do throws(GPTProblem) {
            let header = try GPTHeader(sector, at: lba, sectorCount: disk.byteCount / unit, unit: unit)
            let entries: [UInt8]
            do { entries = try disk.readBytes(at: header.entriesLBA * unit, count: header.entryByteCount) } catch {
                throw .io(error)
            }
            guard CRC32.iso.checksum(entries) == header.entriesChecksum else { throw .damaged }
            return .whole(try GPTCopy(header, entries, unit: unit))
        } catch {
            switch error {
            case .damaged: return .none(nil)
            case .unusable(let what): return .none(what)
            case .unclear(let what): return .unclear(what)
            case .io(let error): throw error
            }
        }
    }
}

/// Why a copy of a table is not followed.
private enum GPTProblem: Error {
    /// The copy is missing, or its checksums are wrong.
    case damaged
    /// Its checksums are correct, but neither firmware nor kernel would use it.
    case unusable(String)
    /// Firmware or kernel would use it.
    case unclear(String)
    case io(BlockIOError)

    /// The result of `read`; a field out of bounds is damage.
    static func reading<Value>(_ read: () throws(ParsingError) -> Value) throws(GPTProblem) -> Value {
        do { return try read() } catch { throw .damaged }
    }
}

/// A GPT header (UEFI 2.10 §5.3.2, table 5-5) with checked fields. Addresses in sectors.
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

    init(_ sector: [UInt8], at lba: UInt64, sectorCount: UInt64, unit: UInt64) throws(GPTProblem) {
        self = try GPTProblem.reading { () throws(ParsingError) in try GPTHeader(fields: sector, at: lba) }
        // "This value shall be set to a value of 128 x 2^n."
        guard entrySize >= 128, entrySize <= 4096, entrySize & (entrySize - 1) == 0 else {
            throw .unusable("with entries of \(entrySize) bytes")
        }
        guard firstUsableLBA >= 2, firstUsableLBA <= lastUsableLBA else {
            throw .unusable("with an impossible range for its partitions")
        }
        guard lastUsableLBA < sectorCount - 1 else {
            throw .unusable(
                "of a longer disk: its partitions may go up to sector \(lastUsableLBA), and this disk has \(sectorCount)"
            )
        }
        guard entryCount >= 1 else { throw .unusable("without entries") }
        guard entryCount <= GPTReader.entryCountLimit, entryByteCount <= GPTReader.entryBytesLimit else {
            throw .unclear(
                "with \(entryCount) entries of \(entrySize) bytes: no more than \(GPTReader.entryCountLimit), or 1 MiB, are followed"
            )
        }
        // The entries are between a header and the usable range: before it for the primary, after it for the backup.
        let entrySectors = (UInt64(entryByteCount) + unit - 1) / unit
        let (entriesEnd, overflow) = entriesLBA.addingReportingOverflow(entrySectors)
        let isPrimary = lba == 1
        guard !overflow, entriesEnd < sectorCount else { throw .unusable("whose entries lie behind the disk's end") }
        guard
            isPrimary
                ? entriesLBA >= 2 && entriesEnd <= firstUsableLBA : entriesLBA > lastUsableLBA && entriesEnd <= lba
        else { throw .unclear("whose entries lie among its partitions") }
    }

    private init(fields sector: [UInt8], at lba: UInt64) throws(ParsingError) {
        let fields = try GPTHeaderFields(sector)
        guard fields.ownLBA == lba else { throw .invalid(what: "MyLBA") }
        alternateLBA = fields.alternateLBA
        firstUsableLBA = fields.firstUsableLBA
        lastUsableLBA = fields.lastUsableLBA
        diskGUID = fields.diskGUID
        entriesLBA = fields.entriesLBA
        entryCount = fields.entryCount
        entrySize = fields.entrySize
        entriesChecksum = fields.entriesChecksum
    }
}

/// One valid copy of a GPT: header and entries.
private struct GPTCopy {
    let header: GPTHeader
    let unit: UInt64
    let partitions: [Partition]

    var alternateLBA: UInt64 { header.alternateLBA }

    /// Entries as in UEFI 2.10 §5.3.3, table 5-6.
    init(_ header: GPTHeader, _ entries: [UInt8], unit: UInt64) throws(GPTProblem) {
        var partitions: [Partition] = []
        for index in 0..<header.entryCount {
            let entry = try GPTProblem.reading { () throws(ParsingError) in
                try Self.entry(entries, at: index * header.entrySize)
            }
            guard let entry else { continue }
            guard entry.first >= header.firstUsableLBA, entry.first <= entry.last, entry.last <= header.lastUsableLBA
            else { throw .unclear("whose partition \(index + 1) lies outside of the range for partitions") }
            var partition = entry.partition
            partition.number = index + 1
            partition.range = entry.first * unit..<(entry.last + 1) * unit
            partitions.append(partition)
        }
        let sorted = partitions.sorted { ($0.range.lowerBound, $0.number) < ($1.range.lowerBound, $1.number) }
        for (first, second) in zip(sorted, sorted.dropFirst())
        where first.range.upperBound > second.range.lowerBound {
            throw .unclear(
                "whose partitions \(min(first.number, second.number)) and \(max(first.number, second.number)) overlap")
        }
        self.header = header
        self.unit = unit
        self.partitions = partitions
    }

    /// One entry, without its number and place; `nil` for an unused one.
    private static func entry(
        _ entries: [UInt8], at place: Int
    ) throws(ParsingError) -> (partition: Partition, first: UInt64, last: UInt64)? {
        typealias Offset = GPTEntryOffset
        let type = try GUID(mixedEndianBytes: try entries.bytes(at: place + Offset.type, count: 16))
        guard type != .zero else { return nil }
        let partition = Partition(
            number: 0, range: 0..<0, typeGUID: type,
            guid: try GUID(mixedEndianBytes: try entries.bytes(at: place + Offset.guid, count: 16)),
            name: try name(entries, at: place + Offset.name),
            attributes: try entries.littleEndian(UInt64.self, at: place + Offset.attributes))
        return (
            partition, try entries.littleEndian(UInt64.self, at: place + Offset.firstLBA),
            try entries.littleEndian(UInt64.self, at: place + Offset.lastLBA)
        )
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
