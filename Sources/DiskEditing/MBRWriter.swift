// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems

/// Writes the entries of an MBR and the chain of its extended boot records (EBRs) for partitions at new places
/// (UEFI 2.10 §5.2.1, table 5-2, for the entries; kernel, `block/partitions/msdos.c`, parse_extended, for the chain).
struct MBRWriter {
    /// Block 0.
    private(set) var head: [UInt8]
    /// The EBRs, in the order of their chain.
    private(set) var records: [CapturedTable.Record] = []

    private let captured: CapturedTable
    private let places: [Int: ByteRange]
    private let sector: UInt64

    /// Where the entries start in a sector, and how long each is, in bytes.
    private static let entriesOffset = MasterBootRecord.entriesOffset
    private static let entryByteCount = MasterBootRecord.Entry.byteCount

    init(_ captured: CapturedTable, places: [Int: ByteRange]) {
        self.captured = captured
        self.places = places
        head = captured.head
        sector = UInt64(captured.sectorSize)
    }

    /// - Parameter partitions: all that remain, as captured, in the order of their numbers.
    mutating func write(_ partitions: [Partition]) throws(TableEditError) {
        guard head.count >= 512 else { throw TableEditError("the captured MBR has \(head.count) bytes") }
        let outer = partitions.filter { $0.mbr?.role != .logical }
        for slot in 0..<4 {
            let place = Self.entriesOffset + slot * Self.entryByteCount
            guard let partition = outer.first(where: { $0.number == slot + 1 }) else {
                head.replaceSubrange(place..<place + Self.entryByteCount, with: repeatElement(0, count: 16))
                continue
            }
            let range = try range(of: partition)
            head.replaceSubrange(
                place..<place + Self.entryByteCount,
                with: try entry(
                    of: partition, at: range, from: 0, sameAs: Array(captured.head[place..<place + 16])))
        }
        let logicals = partitions.filter { $0.mbr?.role == .logical }
        guard let extended = outer.first(where: { !$0.isVolume }) else {
            guard logicals.isEmpty else { throw TableEditError("there is no extended partition for the logical ones") }
            return
        }
        try writeChain(logicals, in: try range(of: extended))
    }

    /// The chain follows the numbers. It begins at the start of the extended partition, wherever the first logical
    /// partition is; each of the others has its record in the sector before it.
    private mutating func writeChain(_ logicals: [Partition], in extended: ByteRange) throws(TableEditError) {
        var starts: [UInt64] = []
        for (index, logical) in logicals.enumerated() {
            let range = try range(of: logical)
            starts.append(index == 0 ? extended.lowerBound : range.lowerBound - min(sector, range.lowerBound))
        }
        for (index, logical) in logicals.enumerated() {
            let start = starts[index]
            let range = try range(of: logical)
            let old = captured.records.first { $0.offset == logical.mbr?.recordOffset }
            // The data that an older system keeps before the entries (names of drives) stays.
            var bytes = [UInt8](repeating: 0, count: 512)
            if let old, old.bytes.count == 512 {
                bytes.replaceSubrange(0..<Self.entriesOffset, with: old.bytes[0..<Self.entriesOffset])
            }
            let oldEntry = old.flatMap { Self.entry(of: logical, in: $0.bytes) } ?? []
            bytes.replaceSubrange(
                Self.entriesOffset..<Self.entriesOffset + Self.entryByteCount,
                with: try entry(of: logical, at: range, from: start, sameAs: oldEntry))
            if index + 1 < logicals.count {
                let next = starts[index + 1]..<(try self.range(of: logicals[index + 1])).upperBound
                bytes.replaceSubrange(
                    Self.entriesOffset + Self.entryByteCount..<Self.entriesOffset + 2 * Self.entryByteCount,
                    with: try Self.entry(type: 0x05, indicator: 0, next, from: extended.lowerBound, sector))
            }
            (bytes[510], bytes[511]) = (0x55, 0xAA)
            records.append(.init(offset: start, bytes: bytes))
        }
        // An extended partition without logical partitions has an empty record.
        if logicals.isEmpty {
            var bytes = [UInt8](repeating: 0, count: 512)
            (bytes[510], bytes[511]) = (0x55, 0xAA)
            records = [.init(offset: extended.lowerBound, bytes: bytes)]
        }
    }

    private func range(of partition: Partition) throws(TableEditError) -> ByteRange {
        guard let range = places[partition.number], range.lowerBound % sector == 0, range.upperBound % sector == 0,
            !range.isEmpty
        else { throw TableEditError("partition \(partition.number) would not start or end on a sector") }
        return range
    }

    /// The entry of a partition; a cylinder, head and sector address stays unless its place changes.
    private func entry(
        of partition: Partition, at range: ByteRange, from base: UInt64, sameAs old: [UInt8]
    ) throws(TableEditError) -> [UInt8] {
        guard let facts = partition.mbr else { throw TableEditError("partition \(partition.number) has no MBR entry") }
        var bytes = try Self.entry(
            type: facts.type, indicator: facts.isActive ? 0x80 : 0, range, from: base, sector)
        guard old.count == Self.entryByteCount else { return bytes }
        if range.lowerBound == partition.range.lowerBound { bytes.replaceSubrange(1..<4, with: old[1..<4]) }
        if range.upperBound == partition.range.upperBound { bytes.replaceSubrange(5..<8, with: old[5..<8]) }
        return bytes
    }

    private static func entry(
        type: UInt8, indicator: UInt8, _ range: ByteRange, from base: UInt64, _ sector: UInt64
    ) throws(TableEditError) -> [UInt8] {
        guard range.lowerBound > base, let start = UInt32(exactly: (range.lowerBound - base) / sector),
            let count = UInt32(exactly: range.byteCount / sector)
        else {
            throw TableEditError("an MBR does not reach from byte \(base) to the bytes \(range)")
        }
        var bytes = [indicator] + address(range.lowerBound / sector) + [type] + address(range.upperBound / sector - 1)
        bytes.appendLittleEndian(start)
        bytes.appendLittleEndian(count)
        return bytes
    }

    /// A sector's address with 255 heads and 63 sectors per track, as all systems count since disks exceed 8 GB; the
    /// last possible address for sectors behind it.
    private static func address(_ sector: UInt64) -> [UInt8] {
        let (heads, sectors): (UInt64, UInt64) = (255, 63)
        let cylinder = sector / (heads * sectors)
        guard cylinder <= 1023 else { return [254, 0xFF, 0xFF] }
        return [
            UInt8(sector / sectors % heads), UInt8(sector % sectors + 1) | UInt8(cylinder >> 8) << 6,
            UInt8(cylinder & 0xFF),
        ]
    }

    /// The entry of a logical partition in its captured record: the one with its type that is no link.
    private static func entry(of logical: Partition, in record: [UInt8]) -> [UInt8]? {
        stride(from: entriesOffset, to: MasterBootRecord.signatureOffset, by: entryByteCount)
            .map { Array(record[$0..<$0 + entryByteCount]) }
            .first { $0[4] == logical.mbr?.type && $0[12..<16].contains { $0 != 0 } }
    }
}
