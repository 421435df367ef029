// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems

extension ForeignTable {
    /// The shortest disk that the table may be on, in sectors.
    func leastSectors(_ unit: UInt64) -> UInt64 { kind == .gpt ? leastGPTSectors(unit) : leastMBRSectors }

    /// The bytes of the table on a disk, read again by Reforge's own readers and compared with what was asked for, and
    /// remarks.
    func made(
        on geometry: DiskGeometry, _ sources: MBRSources, name: String
    ) throws(ParsingError) -> ([ForeignBytes], [String]) {
        let (fixed, warnings): ([ForeignBytes], [String]) =
            switch kind {
            case .gpt: (try gpt(on: geometry, record: sources.record), [])
            case .mbr: try mbr(on: geometry, sources)
            }
        let reader = ForeignBytesReader(
            fixed, byteCount: geometry.byteCount, logicalSectorSize: geometry.logicalSectorSize, name: name)
        let table: PartitionTable?
        do { table = kind == .gpt ? try GPTReader.read(reader) : try MBRReader.read(reader) } catch {
            throw .invalid(what: "the partition table (\(error))")
        }
        // An MBR without partitions looks like none.
        guard let table else {
            if entries.isEmpty, kind == .mbr { return (fixed, warnings) }
            throw .invalid(what: "the partition table")
        }
        let unit = UInt64(geometry.logicalSectorSize)
        let isRight =
            table.condition == .intact && table.partitions.count == entries.count
            && zip(table.partitions, entries).allSatisfy { made, wanted in
                made.range == wanted.start * unit..<wanted.end * unit
                    && (kind == .mbr || made.typeGUID == wanted.type && made.guid == wanted.guid)
                    && (kind == .gpt || made.mbr?.type == wanted.typeByte)
            }
        guard isRight else { throw .invalid(what: "the list of partitions") }
        return (fixed, warnings)
    }
}
