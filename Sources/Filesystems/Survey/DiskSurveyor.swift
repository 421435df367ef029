// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// Surveys a disk: its table, its volumes, its boot code. Reads only.
package enum DiskSurveyor {
    /// Surveys a disk.
    /// - Parameters:
    ///   - mountedReadWrite: the parts of the disk (bytes) that are mounted read-write now: their maps may change
    ///     meanwhile.
    ///   - allUsed: whether every byte of every volume counts as used.
    ///   - skipPageFiles: whether the contents of Windows' page and hibernation files count as unused.
    ///   - trustMaps: whether allocation structures are used without a check of the blocks' owners.
    ///   - unlocker: opens LUKS volumes that are not mounted, so that only their used sectors count.
    ///   - descriptor: an open descriptor of the same disk, for libblkid's second opinion.
    /// - Throws: `BlockIOError` if the partition table cannot be read. A volume that cannot be read counts as
    ///   unknown and used, and a warning reports it.
    package static func survey(
        _ disk: any BlockReader, identity: DiskIdentity, geometry: DiskGeometry, mountedReadWrite: [ByteRange] = [],
        allUsed: Bool = false, skipPageFiles: Bool = false, trustMaps: Bool = false, unlocker: LUKSUnlocker? = nil,
        descriptor: Int32? = nil
    ) throws(BlockIOError) -> DiskSurvey {
        let opinion = descriptor.map { SecondOpinion(descriptor: $0) }
        let table = try PartitionTableReader.read(disk, secondOpinion: opinion)
        var warnings = tableWarnings(table)
        var volumes: [VolumeSurvey] = []
        for (range, partition) in places(table, diskByteCount: disk.byteCount) {
            let isMounted = mountedReadWrite.contains { $0.overlaps(range) }
            var (info, map) = contents(
                of: range, disk, table, opinion, partition,
                skipPageFiles: skipPageFiles && !isMounted && !allUsed, trustMaps: trustMaps || isMounted || allUsed,
                unlocker: isMounted || allUsed ? nil : unlocker, &warnings)
            let name = partition.map { "partition \($0.number)" } ?? "the disk"
            if let reason = info.wholeReason, info.kind != .other, info.kind != .unknown {
                warnings.append("\(name): all of this \(info.kindName) counts as used: \(reason)")
            }
            warnings += innerWarnings(info).map { "\(name): \($0)" }
            if isMounted || allUsed, info.mapSource != .whole {
                info = info.takenWhole(
                    because: isMounted ? "it is mounted read-write" : FilesystemInfo.allSectorsReason)
                map = .whole(byteCount: range.byteCount)
            }
            warnings += info.remarks.map { "\(name): \(info.kindName) \($0)" }
            volumes.append(VolumeSurvey(range: range, partition: partition, filesystem: info, allocation: map))
        }
        let boot = try BootCodeSurveyor(disk: disk).survey(volumes)
        return DiskSurvey(
            identity: identity, geometry: geometry, table: table, volumes: volumes, boot: boot, warnings: warnings)
    }

    /// How a disk boots, for volumes that were surveyed otherwise.
    package static func boot(
        _ disk: any BlockReader, _ volumes: [VolumeSurvey]
    ) throws(BlockIOError) -> BootSurvey {
        try BootCodeSurveyor(disk: disk).survey(volumes)
    }

    /// The ranges of the volumes of a table, ascending.
    package static func volumePlaces(
        _ table: PartitionTable, diskByteCount: UInt64
    ) -> [(range: ByteRange, partition: Partition?)] {
        places(table, diskByteCount: diskByteCount).map { (range: $0.0, partition: $0.1) }
    }

    /// Warnings about the volumes inside an opened container.
    private static func innerWarnings(_ info: FilesystemInfo) -> [String] {
        guard info.mapSource != .whole else { return [] }
        return (info.inner ?? []).flatMap { volume in
            let filesystem = volume.filesystem
            let whole = filesystem.wholeReason.map { reason in
                let holds = filesystem.kind == .unknown ? "it" : "this \(filesystem.kindName)"
                return "\(volume.name): all of \(holds) counts as used: \(reason)"
            }
            let remarks = filesystem.remarks.map { "\(volume.name): \(filesystem.kindName) \($0)" }
            return (whole.map { [$0] } ?? []) + remarks + innerWarnings(filesystem).map { "\(volume.name): \($0)" }
        }
    }

    /// The ranges of the volumes, ascending.
    private static func places(_ table: PartitionTable, diskByteCount: UInt64) -> [(ByteRange, Partition?)] {
        guard table.kind == .gpt || table.kind == .mbr else { return [(0..<diskByteCount, nil)] }
        return table.partitions.filter(\.isVolume).map { ($0.range, $0) }.sorted { $0.0.lowerBound < $1.0.lowerBound }
    }

    private static func contents(
        of range: ByteRange, _ disk: any BlockReader, _ table: PartitionTable, _ opinion: SecondOpinion?,
        _ partition: Partition?, skipPageFiles: Bool, trustMaps: Bool, unlocker: LUKSUnlocker?,
        _ warnings: inout [String]
    ) -> (FilesystemInfo, AllocationMap) {
        let whole = AllocationMap.whole(byteCount: range.byteCount)
        func unknown(_ reason: String) -> FilesystemInfo {
            FilesystemInfo(kind: .unknown, kindName: "unknown", mapSource: .whole, wholeReason: reason)
        }
        // Remains of older content under an unsupported table must not decide which bytes are kept.
        if table.kind == .unknown {
            return (
                unknown("its partition table is not understood (\(table.unknownKindName ?? "nothing known"))"), whole
            )
        }
        guard let volume = BlockSlice(disk, range: range) else { return (unknown("it ends past the disk"), whole) }
        do throws(BlockIOError) {
            return try VolumeIdentifier.survey(
                volume, secondOpinion: opinion?.shifted(up: range.lowerBound), skipPageFiles: skipPageFiles,
                trustMaps: trustMaps, unlocker: unlocker)
        } catch {
            let name = partition.map { "partition \($0.number)" } ?? "the disk"
            warnings.append("\(name) is taken whole: \(error)")
            return (unknown(error.description), whole)
        }
    }

    private static func tableWarnings(_ table: PartitionTable) -> [String] {
        switch (table.kind, table.condition) {
        case (.gpt, .primaryDamaged):
            ["the primary partition table is damaged; its backup at the end of the disk was used"]
        case (.gpt, .backupDamaged):
            ["the backup partition table is damaged or not at the end of the disk; the primary was used"]
        case (.unknown, _):
            [
                "the partition table is not understood (\(table.unknownKindName ?? "nothing known")): "
                    + "the disk counts as one raw region"
            ]
        default: []
        }
    }
}
