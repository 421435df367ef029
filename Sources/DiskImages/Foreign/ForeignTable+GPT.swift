// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems

extension ForeignTable {
    /// The length of a GPT's entry in bytes.
    private static let gptEntryByteCount = 128

    /// How many entries there is room for: at least 128, as all programs make it.
    private var roomForEntries: Int { max(128, min(entryCount ?? 128, 8192), entries.last?.number ?? 0) }

    /// The number of sectors of the entries.
    private func entrySectors(_ unit: UInt64) -> UInt64 {
        (UInt64(roomForEntries * Self.gptEntryByteCount) + unit - 1) / unit
    }

    /// The shortest disk, in sectors, that this table may be on.
    func leastGPTSectors(_ unit: UInt64) -> UInt64 {
        let end = max(lastUsable.map { $0 + 1 } ?? 0, entries.map(\.end).max() ?? 0)
        return end + entrySectors(unit) + 1
    }

    /// A GPT on a disk (UEFI 2.10 §5.3): protective MBR, primary copy, backup at the end.
    /// - Parameter record: the captured block 0: its boot code counts, and all of it if it protects the GPT, for it may
    ///   list partitions a second time (a hybrid MBR).
    func gpt(on geometry: DiskGeometry, record: [UInt8]?) throws(ParsingError) -> [ForeignBytes] {
        let unit = UInt64(geometry.logicalSectorSize)
        let sectors = geometry.byteCount / unit
        let reserved = entrySectors(unit)
        guard sectors >= leastGPTSectors(unit), sectors >= 2 * reserved + 4, let diskGUID else {
            throw .invalid(what: "a GPT on a disk of \(sectors) sectors")
        }
        let last = sectors - 1
        let firstUsable = max(2 + reserved, self.firstUsable ?? 0)
        let lastUsable = min(last - 1 - reserved, self.lastUsable ?? .max)
        var bytes = [UInt8](repeating: 0, count: Int(reserved * unit))
        var position = firstUsable
        for entry in entries.sorted(by: { $0.start < $1.start }) {
            guard entry.start >= position, entry.end <= lastUsable + 1 else {
                throw .invalid(what: "the place of \(entry.device)")
            }
            position = entry.end
            try Self.write(entry, to: &bytes)
        }
        let checksum = CRC32.iso.checksum(Array(bytes[..<(roomForEntries * Self.gptEntryByteCount)]))
        func header(own: UInt64, other: UInt64, entries: UInt64) -> [UInt8] {
            var header = Array("EFI PART".utf8)
            for field in [0x0001_0000, 92, 0, 0] as [UInt32] { header.appendLittleEndian(field) }
            for field in [own, other, firstUsable, lastUsable] { header.appendLittleEndian(field) }
            header += diskGUID.mixedEndianBytes
            header.appendLittleEndian(entries)
            for field in [UInt32(roomForEntries), UInt32(Self.gptEntryByteCount), checksum] {
                header.appendLittleEndian(field)
            }
            header.setLittleEndian(GPTHeaderFields.checksum(header), at: GPTHeaderFields.Offset.checksum)
            return header + [UInt8](repeating: 0, count: Int(unit) - header.count)
        }
        var head = Self.protective(record, sectors: sectors)
        head += [UInt8](repeating: 0, count: Int(unit) - head.count)
        head += header(own: 1, other: last, entries: 2) + bytes
        let tail = bytes + header(own: last, other: 1, entries: last - reserved)
        return [
            ForeignBytes(offset: 0, bytes: head), ForeignBytes(offset: (last - reserved) * unit, bytes: tail),
        ]
    }

    private static func write(_ entry: Entry, to bytes: inout [UInt8]) throws(ParsingError) {
        guard let guid = entry.guid else { throw .invalid(what: "the missing uuid of \(entry.device)") }
        let place = (entry.number - 1) * gptEntryByteCount
        var fields = entry.type.mixedEndianBytes + guid.mixedEndianBytes
        for field in [entry.start, entry.end - 1, entry.attributes] { fields.appendLittleEndian(field) }
        for character in entry.name.utf16.prefix(36) { fields.appendLittleEndian(character) }
        bytes.replaceSubrange(place..<place + fields.count, with: fields)
    }

    /// Block 0 of 512 bytes (UEFI 2.10 §5.2.3).
    private static func protective(_ record: [UInt8]?, sectors: UInt64) -> [UInt8] {
        if let record, record.count >= 512, MasterBootRecord(record)?.entries.contains(where: \.isProtective) == true {
            return Array(record[..<512])
        }
        var bytes = [UInt8](repeating: 0, count: 512)
        if let record, record.count >= 440 { bytes.replaceSubrange(0..<440, with: record[..<440]) }
        let place = MasterBootRecord.entriesOffset
        bytes.replaceSubrange(place..<place + 8, with: [0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF])
        bytes.setLittleEndian(1 as UInt32, at: place + 8)
        bytes.setLittleEndian(UInt32(clamping: sectors - 1), at: place + 12)
        bytes.setLittleEndian(MasterBootRecord.signature, at: MasterBootRecord.signatureOffset)
        return bytes
    }

    /// Reads the primary copy of a GPT from the first sectors of a disk, as they were saved beside the dump; `nil`
    /// if they do not hold it.
    init?(gptHead head: [UInt8], geometry: DiskGeometry, disk: String) {
        let reader = ForeignBytesReader(
            [ForeignBytes(offset: 0, bytes: Self.withProtection(head))], byteCount: geometry.byteCount,
            logicalSectorSize: geometry.logicalSectorSize, name: disk)
        guard let table = try? GPTReader.read(reader), table.kind == .gpt, table.partitions.count <= Self.entryLimit,
            table.partitions.allSatisfy({ $0.number <= Self.entryLimit })
        else { return nil }
        let unit = UInt64(geometry.logicalSectorSize)
        let separator = disk.last?.isNumber == true ? "p" : ""
        self.init(
            kind: .gpt, sectorSize: geometry.logicalSectorSize, diskGUID: table.diskGUID,
            firstUsable: table.usable.lowerBound / unit, lastUsable: table.usable.upperBound / unit - 1,
            entryCount: table.entryCount,
            entries: table.partitions.map { partition in
                Entry(
                    number: partition.number, device: "\(disk)\(separator)\(partition.number)",
                    start: partition.range.lowerBound / unit, count: partition.range.byteCount / unit,
                    type: partition.typeGUID, guid: partition.guid, name: partition.name,
                    attributes: partition.attributes)
            })
    }

    /// The saved head may lack a valid block 0, without which no reader looks for a GPT.
    private static func withProtection(_ head: [UInt8]) -> [UInt8] {
        guard head.count >= 1024 else { return head }
        return protective(head, sectors: 1 << 32) + head[512...]
    }

    /// Takes from the saved primary copy what the dump lacks, and says where the two disagree.
    mutating func complete(from saved: ForeignTable) -> String? {
        let agrees =
            diskGUID == saved.diskGUID && entries.count == saved.entries.count
            && zip(entries, saved.entries).allSatisfy {
                $0.number == $1.number && $0.start == $1.start && $0.count == $1.count && $0.type == $1.type
            }
        guard agrees else {
            return "the saved first sectors hold another GPT than the list of partitions, which is used"
        }
        entryCount = saved.entryCount
        firstUsable = firstUsable ?? saved.firstUsable
        lastUsable = lastUsable ?? saved.lastUsable
        for (index, entry) in saved.entries.enumerated() where entries[index].guid == nil {
            entries[index].guid = entry.guid
            entries[index].name = entry.name
            entries[index].attributes = entry.attributes
        }
        return nil
    }
}
