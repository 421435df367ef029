// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems

/// The mark of the partition that boot code starts: the active flag of an MBR, the attribute of a GPT.
enum ExtlinuxMarking {
    /// "Legacy BIOS Bootable" (UEFI 2.10 §5.3.3, table 5-8): bit 2.
    static let attribute: UInt64 = 1 << 2
    private static let unsuitable = "the partition table has changed"

    /// The partitions with the mark.
    static func marked(_ table: PartitionTable) -> [Int] {
        table.partitions.filter { partition in
            table.kind == .gpt ? partition.attributes & attribute != 0 : partition.mbr?.isActive == true
        }.map(\.number)
    }

    /// The writes that mark a partition and no other; empty if it is so, or cannot be done.
    static func runs(
        marking number: Int, _ table: PartitionTable, of disk: any BlockReader
    ) throws(BlockIOError) -> [SectorRun] {
        guard marked(table) != [number], disk.logicalSectorSize == 512 else { return [] }
        switch table.kind {
        case .mbr: return mbrRuns(marking: number, table)
        case .gpt:
            guard table.condition == .intact else { return [] }
            let primary = try gptRuns(marking: number, headerSector: 1, of: disk)
            guard let alternate = primary.alternate else { return [] }
            let backup = try gptRuns(marking: number, headerSector: alternate, of: disk)
            // While one copy is written, the other is valid.
            return primary.runs.isEmpty || backup.runs.isEmpty ? [] : backup.runs + primary.runs
        case .none, .unknown: return []
        }
    }

    /// Only primary partitions can be active (mbr.S looks at four entries).
    private static func mbrRuns(marking number: Int, _ table: PartitionTable) -> [SectorRun] {
        guard let partition = table.partitions.first(where: { $0.number == number }),
            partition.mbr?.role == .primary, (1...4).contains(number)
        else { return [] }
        let patches = (1...4).compactMap { entry -> SectorRun.Patch? in
            let isActive = table.partitions.contains { $0.number == entry && $0.mbr?.isActive == true }
            guard isActive != (entry == number) else { return nil }
            return SectorRun.Patch(at: 446 + 16 * (entry - 1), .bytes([entry == number ? 0x80 : 0]))
        }
        return [
            SectorRun(
                sector: 0, endSector: 1, source: .present(sectorCount: 1), patches: patches, unsuitable: unsuitable,
                tooLong: unsuitable)
        ]
    }

    private static let largestArray = 1 << 20

    /// The writes for one copy of a GPT: the sectors of its entries, then its header.
    private static func gptRuns(
        marking number: Int, headerSector: UInt64, of disk: any BlockReader
    ) throws(BlockIOError) -> (runs: [SectorRun], alternate: UInt64?) {
        let sectors = disk.byteCount / 512
        guard headerSector < sectors else { return ([], nil) }
        var header = try disk.readBytes(at: headerSector * 512, count: 512)
        guard let fields = try? GPTHeaderFields(header) else { return ([], nil) }
        let (length, overflow) = fields.entryCount.multipliedReportingOverflow(by: fields.entrySize)
        guard !overflow, length > 0, length <= largestArray, fields.entrySize >= 128, fields.entrySize % 128 == 0,
            512 % fields.entrySize == 0 || fields.entrySize % 512 == 0, number <= fields.entryCount,
            fields.entriesLBA < sectors, UInt64(length) <= (sectors - fields.entriesLBA) * 512
        else { return ([], nil) }
        var entries = try disk.readBytes(at: fields.entriesLBA * 512, count: length)
        var runs: [SectorRun] = []
        for index in 0..<fields.entryCount {
            let start = index * fields.entrySize
            guard let type = try? entries.bytes(at: start, count: 16), type.contains(where: { $0 != 0 }) else {
                continue
            }
            // Attributes: the eight bytes at 48; bit 2 is in the first.
            let old = entries[start + 48]
            let new = index + 1 == number ? old | UInt8(attribute) : old & ~UInt8(attribute)
            guard new != old else { continue }
            entries[start + 48] = new
            let patch = SectorRun.Patch(at: start % 512 + 48, .bytes([new]))
            let sector = fields.entriesLBA + UInt64(start / 512)
            // One run a sector: each is composed of what is on the disk before the first is written.
            if let last = runs.indices.last, runs[last].sector == sector {
                runs[last].patches.append(patch)
            } else {
                runs.append(run(sector, [patch]))
            }
        }
        // PartitionEntryArrayCRC32, then HeaderCRC32 over the header with that field zero.
        var sum: [UInt8] = []
        sum.appendLittleEndian(CRC32.iso.checksum(entries))
        header.replaceSubrange(88..<92, with: sum)
        header.replaceSubrange(16..<20, with: [0, 0, 0, 0])
        let byteCount = Int((try? header.littleEndian(UInt32.self, at: GPTHeaderFields.Offset.headerSize)) ?? 92)
        var own: [UInt8] = []
        own.appendLittleEndian(CRC32.iso.checksum(Array(header.prefix(byteCount))))
        runs.append(run(headerSector, [SectorRun.Patch(at: 88, .bytes(sum)), SectorRun.Patch(at: 16, .bytes(own))]))
        return (runs.count > 1 ? runs : [], fields.alternateLBA)
    }

    private static func run(_ sector: UInt64, _ patches: [SectorRun.Patch]) -> SectorRun {
        SectorRun(
            sector: sector, endSector: sector + 1, source: .present(sectorCount: 1), patches: patches,
            unsuitable: unsuitable, tooLong: unsuitable)
    }
}
