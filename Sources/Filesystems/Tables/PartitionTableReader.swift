// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// Finds out which partition table a disk has.
package enum PartitionTableReader {
    /// Reads the table of a disk: a GPT or an MBR; none, where a filesystem stands on the bare disk or both ends of it are blank;
    /// unknown for all else.
    /// - Parameter secondOpinion: libblkid's view of the disk, which knows more filesystems than we do.
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
            // A stick with a hybrid ISO is both, and is what it is only to the bit.
            return holdsFilesystem ? unknown("MBR and \(whole.kindName) at the same time") : table
        }
        let isPlain = if holdsFilesystem { true } else { try isBlank(disk) }
        return PartitionTable(kind: isPlain ? .none : .unknown, usable: 0..<disk.byteCount)
    }

    /// What the partition table of a volume that should have none looks like: the disk of a virtual machine in a logical
    /// volume. `nil` where nothing looks like one.
    static func tableName(_ volume: any BlockReader) throws(BlockIOError) -> String? {
        if try GPTReader.read(volume) != nil { return "GPT" }
        if let name = try unknownTableName(volume) { return name }
        guard volume.byteCount >= 512 else { return nil }
        let record = MasterBootRecord(try volume.readBytes(at: 0, count: 512))
        return record?.isPlausibleTable == true ? "MBR" : nil
    }

    /// Whether a GPT stands in an ISO image that is made to boot from a stick: one of its partitions begins with the volume
    /// descriptors of the whole disk (ECMA-119, 8.1: in sector 16 of 2048 bytes), as xorriso and grub-mkrescue lay them out.
    /// What a disk has from an older life as such a stick lies in front of its first partition, or somewhere inside it.
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

    /// What a table that we do not follow looks like; `nil` where nothing looks like one.
    private static func unknownTableName(_ disk: any BlockReader) throws(BlockIOError) -> String? {
        guard disk.byteCount >= 512 else { return nil }
        if try GPTReader.hasProtectiveMBR(disk) {
            for sectorSize in [512, 4096] where sectorSize != disk.logicalSectorSize {
                if try GPTReader.hasPrimaryCopy(ResectoredReader(base: disk, logicalSectorSize: sectorSize)) {
                    return "GPT of a disk with \(sectorSize)-byte sectors"
                }
            }
            return "GPT " + (try GPTReader.problem(on: disk))
        }
        // Without the protective MBR firmware and kernel see no GPT. Nor may we call the disk a plain filesystem.
        return try GPTReader.hasPrimaryCopy(disk) ? "GPT without its protective MBR" : nil
    }

    /// Whether the first and the last MiB hold nothing but zeros, where every table and most signatures would be.
    private static func isBlank(_ disk: any BlockReader) throws(BlockIOError) -> Bool {
        let count = Int(min(disk.byteCount, 1 << 20))
        for offset in [0, disk.byteCount - UInt64(count)] {
            guard try disk.readBytes(at: offset, count: count).allSatisfy({ $0 == 0 }) else { return false }
        }
        return true
    }
}

/// The same bytes, counted in other sectors.
private struct ResectoredReader: BlockReader {
    let base: any BlockReader
    let logicalSectorSize: Int
    var byteCount: UInt64 { base.byteCount }
    var name: String { base.name }
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        unsafe try base.read(into: buffer, at: offset)
    }
}
