// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// Plans the partition table of a disk that is made to start by the other firmware. Pure.
package enum TableConverter {
    /// The number of entries of a new GPT (UEFI 2.10 §5.3.1: 16,384 bytes at least, at 128 bytes an entry).
    package static let entryCount = 128

    /// The preferred length of an EFI system partition, and the least ones, in bytes. 33 MiB hold the fewest clusters
    /// of a FAT32 in sectors of 512 bytes, 260 MiB in sectors of 4096 (65,525 clusters, and both tables).
    private static let (preferredESP, smallESP) = (260 << 20 as UInt64, 100 << 20 as UInt64)
    private static func leastESP(sectorSize: Int) -> UInt64 { sectorSize > 512 ? 260 << 20 : 34 << 20 }

    /// The preferred start of a BIOS boot partition in front of the first MiB, in bytes: behind the primary GPT
    /// (sectors 0 to 33) and the 4 KiB of `RestoreNote`.
    private static let biosBootStart: UInt64 = 40 << 10
    /// The least length of a BIOS boot partition in bytes. GRUB's core.img with the drivers for a Btrfs on LVM has
    /// less than 300 KiB.
    private static let leastBIOSBoot: UInt64 = 400 << 10
    private static let mebibyte: UInt64 = 1 << 20

    /// Why an MBR cannot become a GPT, as half a sentence; `nil` if it can.
    package static func obstacle(toGPT table: PartitionTable) -> String? {
        let volumes = table.partitions.filter(\.isVolume)
        if let odd = volumes.first(where: { $0.typeGUID == .zero }) {
            return "partition \(odd.number) has a type that a GPT does not know (\(odd.typeName))"
        }
        if let far = volumes.first(where: { $0.number > entryCount || $0.number < 1 }) {
            return "partition \(far.number) has a higher number than the \(entryCount) of a GPT"
        }
        let order = volumes.sorted { $0.range.lowerBound < $1.range.lowerBound }
        for (first, second) in zip(order, order.dropFirst()) where first.range.upperBound > second.range.lowerBound {
            return "the partitions \(first.number) and \(second.number) overlap"
        }
        return volumes.isEmpty ? "the MBR has no partitions" : nil
    }

    /// The partitions of an MBR as those of a GPT on the captured disk: the same numbers and places, without the
    /// extended partition.
    /// - Parameters:
    ///   - source: the captured disk.
    ///   - identity: the GUID for a partition with this number; 0 stands for the disk.
    package static func gpt(
        replacing table: PartitionTable, source: DiskGeometry, identity: (Int) -> GUID
    ) -> (table: PartitionTable, entries: [Int: TableConversion.Entry]) {
        let sector = UInt64(max(512, source.logicalSectorSize))
        let head = (2 * sector + UInt64(entryCount) * 128).roundedUp(toMultipleOf: sector) ?? mebibyte
        let end = source.byteCount.roundedDown(toMultipleOf: sector)
        var entries: [Int: TableConversion.Entry] = [:]
        var partitions: [Partition] = []
        for partition in table.partitions where partition.isVolume {
            let guid = identity(partition.number)
            entries[partition.number] = .init(typeGUID: partition.typeGUID, guid: guid)
            partitions.append(
                Partition(
                    number: partition.number, range: partition.range, typeGUID: partition.typeGUID, guid: guid,
                    name: partition.name))
        }
        let usable = head..<max(head, end - min(end, head - sector))
        let gpt = PartitionTable(
            kind: .gpt, diskGUID: identity(0), usable: usable, entryCount: entryCount, partitions: partitions)
        return (gpt, entries)
    }

    /// The lowest number that is free behind all others, else the lowest free one; `nil` if the table is full.
    package static func freeNumber(in table: PartitionTable) -> Int? {
        let used = Set(table.partitions.map(\.number))
        let last = used.max() ?? 0
        if last < table.entryCount { return last + 1 }
        return (1...max(1, table.entryCount)).first { $0 <= table.entryCount && !used.contains($0) }
    }

    /// A possible place of the partition for the loader.
    package struct Candidate: Equatable, Sendable {
        /// In bytes of the captured disk, or behind its end.
        package var range: ByteRange
        /// Whether it is taken even if other partitions have to be made smaller for it.
        package var mayShrinkOthers: Bool
        /// Whether it lies in free space of the captured disk, so that nothing moves for it.
        package var isFree: Bool
    }

    /// The possible places of the partition for the loader, best first: where there is room anyway, then where others
    /// move, then where they get smaller.
    /// - Parameters:
    ///   - table: the captured GPT, or the one that replaces the captured MBR.
    ///   - alignment: of partitions on the target, in bytes.
    ///   - sectorSize: of the target, in bytes.
    package static func candidates(
        for goal: TableConversion.Goal, in table: PartitionTable, alignment: UInt64, sectorSize: Int
    ) -> [Candidate] {
        let gaps = gaps(table, alignment: max(mebibyte, alignment))
        let last = table.partitions.map(\.range.upperBound).max() ?? 0
        let end = max(last, mebibyte).roundedUp(toMultipleOf: max(mebibyte, alignment)) ?? last
        func free(_ least: UInt64, most: UInt64) -> [Candidate] {
            gaps.filter { $0.byteCount >= least }.map {
                Candidate(
                    range: $0.lowerBound..<$0.lowerBound + min($0.byteCount, most), mayShrinkOthers: false, isFree: true
                )
            }
        }
        func behind(_ length: UInt64, mayShrinkOthers: Bool) -> [Candidate] {
            ByteRange(offset: end, byteCount: length).map {
                [Candidate(range: $0, mayShrinkOthers: mayShrinkOthers, isFree: false)]
            } ?? []
        }
        switch goal {
        case .uefi:
            let least = leastESP(sectorSize: sectorSize)
            let small = max(smallESP, least)
            return free(preferredESP, most: preferredESP) + behind(preferredESP, mayShrinkOthers: false)
                + free(least, most: preferredESP) + behind(small, mayShrinkOthers: false)
                + behind(small, mayShrinkOthers: true) + behind(least, mayShrinkOthers: true)
        case .bios:
            return front(table) + free(mebibyte, most: mebibyte) + behind(mebibyte, mayShrinkOthers: false)
                + behind(mebibyte, mayShrinkOthers: true)
        }
    }

    /// The space between the primary GPT and the first partition, at most to the first MiB.
    private static func front(_ table: PartitionTable) -> [Candidate] {
        let tableEnd = table.entryByteCount(inSectorsOf: 512) + 1024
        let first = min(table.partitions.map(\.range.lowerBound).min() ?? mebibyte, mebibyte)
        // Sectors of 4 KiB, whatever the disk's: a partition tool then sees nothing to complain about.
        guard let start = max(biosBootStart, tableEnd).roundedUp(toMultipleOf: 4096), start < first,
            case let end = first.roundedDown(toMultipleOf: 4096), end > start, end - start >= leastBIOSBoot
        else { return [] }
        return [Candidate(range: start..<end, mayShrinkOthers: false, isFree: true)]
    }

    /// The free ranges between partitions, on boundaries of the alignment.
    private static func gaps(_ table: PartitionTable, alignment: UInt64) -> [ByteRange] {
        var gaps: [ByteRange] = []
        var cursor = max(table.usable.lowerBound, mebibyte)
        for partition in table.partitions.sorted(by: { $0.range.lowerBound < $1.range.lowerBound }) {
            if let start = cursor.roundedUp(toMultipleOf: alignment),
                case let end = partition.range.lowerBound.roundedDown(toMultipleOf: alignment), start < end
            {
                gaps.append(start..<end)
            }
            cursor = max(cursor, partition.range.upperBound)
        }
        return gaps
    }

    /// The table that the layout is planned with: with the partition for the loader, and with room for it.
    package static func adding(_ partition: Partition, to table: PartitionTable) -> PartitionTable {
        var table = table
        table.partitions.append(partition)
        table.partitions.sort { $0.number < $1.number }
        let first = partition.range.lowerBound
        if first < table.usable.lowerBound { table.usable = first..<max(first, table.usable.upperBound) }
        return table
    }
}
