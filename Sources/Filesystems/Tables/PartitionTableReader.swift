// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// Determines the partition table of a disk.
package enum PartitionTableReader {
    /// Reads the table of a disk: a GPT or an MBR; none, where the disk contains a bare filesystem or both its ends
    /// are blank; unknown in all other cases.
    /// - Parameter secondOpinion: libblkid's opinion on the disk; it knows more filesystems than Reforge.
    package static func read(
        _ disk: any BlockReader, secondOpinion: SecondOpinion? = nil
    ) throws(BlockIOError) -> PartitionTable {
        func unknown(_ name: String?) -> PartitionTable {
            PartitionTable(kind: .unknown, unknownKindName: name, usable: 0..<disk.byteCount)
        }
        if let table = try GPTReader.read(disk) {
            return try isHybridISO(disk, table) ? unknown("GPT and iso9660 at the same time") : table
        }
        if let name = try unknownTableName(disk) { return unknown(name) }
        let record = try MBRReader.finding(on: disk)
        if case .unclear(let name) = record, try !MBRReader.namesOnlyItself(disk) { return unknown(name) }
        let whole = try VolumeIdentifier.survey(disk, secondOpinion: secondOpinion, trustMaps: true).0
        if case .unclear(let name) = record, !whole.isFAT { return unknown(name) }
        let holdsFilesystem = whole.kind != .unknown
        if case .table(let table) = record {
            // A stick with a hybrid ISO is both, and works only as an exact copy.
            return holdsFilesystem ? unknown("MBR and \(whole.kindName) at the same time") : table
        }
        let isPlain = if holdsFilesystem { true } else { try isBlank(disk) }
        return PartitionTable(kind: isPlain ? .none : .unknown, usable: 0..<disk.byteCount)
    }

    /// The apparent partition table of a volume that should have none, such as the disk of a virtual machine in a
    /// logical volume. `nil` without one.
    static func tableName(_ volume: any BlockReader) throws(BlockIOError) -> String? {
        if try GPTReader.read(volume) != nil { return "GPT" }
        if let name = try unknownTableName(volume) { return name }
        guard volume.byteCount >= 512 else { return nil }
        let record = MasterBootRecord(try volume.readBytes(at: 0, count: 512))
        return record?.isPlausibleTable == true ? "MBR" : nil
    }

    /// Whether a GPT is part of an ISO image for booting from a stick: one of its partitions begins with the volume
    /// descriptors of the whole disk (ECMA-119, 8.1: in sector 16 of 2048 bytes), in the layout of xorriso and
    /// grub-mkrescue. Remains of such a stick on a disk are before its first partition, or somewhere inside it.
    private static func isHybridISO(_ disk: any BlockReader, _ table: PartitionTable) throws(BlockIOError) -> Bool {
        let descriptors: ByteRange = 16 * 2048..<17 * 2048
        guard
            table.partitions.contains(where: {
                $0.range.lowerBound == descriptors.lowerBound && $0.range.covers(descriptors)
            })
        else { return false }
        let descriptor = try disk.readBytes(at: descriptors.lowerBound, count: 6)
        return Array(descriptor[1...]) == Array("CD001".utf8)
    }

    /// The apparent kind of an unsupported table; `nil` without one.
    private static func unknownTableName(_ disk: any BlockReader) throws(BlockIOError) -> String? {
        guard disk.byteCount >= 512 else { return nil }
        if try GPTReader.hasProtectiveMBR(disk) {
            for sectorSize in [512, 4096] where sectorSize != disk.logicalSectorSize {
                if try GPTReader.hasPrimaryCopy(ResectoredReader(disk, logicalSectorSize: sectorSize)) {
                    return "GPT of a disk with \(sectorSize)-byte sectors"
                }
            }
            return "GPT " + (try GPTReader.problem(on: disk))
        }
        // Without the protective MBR, firmware and kernel ignore the GPT. But the disk is no plain filesystem either.
        return try GPTReader.hasPrimaryCopy(disk) ? "GPT without its protective MBR" : nil
    }

    /// Whether the first and the last MiB are zeros; every table and most signatures would be there.
    private static func isBlank(_ disk: any BlockReader) throws(BlockIOError) -> Bool {
        let count = Int(min(disk.byteCount, 1 << 20))
        for offset in [0, disk.byteCount - UInt64(count)] {
            guard try disk.readBytes(at: offset, count: count).allSatisfy({ $0 == 0 }) else { return false }
        }
        return true
    }
}
