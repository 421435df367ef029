// SPDX-License-Identifier: GPL-3.0-or-later
import DiskEditing
import DiskModel
import JobModel
import LinuxSystem
import SystemPackage

/// Grows the REFORGE volume to the end of its stick, on the first boot.
enum StickGrowth {
    /// Grows partition table and filesystem, if either ends before the stick does. Nothing is changed if their
    /// structures are not as expected. The volume must not be mounted.
    /// - Returns: a message; `nil` if there was nothing to do.
    static func grow(_ medium: Medium, among volumes: [BlockVolume]) -> String? {
        guard let (volume, number) = reforgePartition(of: medium, among: volumes) else { return nil }
        do {
            return try grow(volume, number)
        } catch {
            return "warning: the REFORGE volume on \(volume.path) does not fill the stick and was not changed: \(error)"
        }
    }

    /// The medium's exFAT partition. If its boot sector was torn by a power cut during growth, it is identified by its
    /// name in the table, and the medium by the stick's ESP.
    private static func reforgePartition(
        of medium: Medium, among volumes: [BlockVolume]
    ) -> (BlockVolume, number: Int)? {
        let torn = volumes.filter {
            $0.type.isEmpty && $0.partitionName == Medium.volumeLabel && medium.disks.contains($0.disk)
        }
        guard let volume = medium.volume ?? (torn.count == 1 ? torn.first : nil),
            volume.type == "exfat" || volume.type.isEmpty,
            volume.disk != volume.node
        else { return nil }
        let nodes = DiskDirectory().partitionNodes(of: volume.disk)
        return nodes.first { $0.name == volume.node }.map { (volume, $0.number) }
    }

    private static func grow(_ volume: BlockVolume, _ number: Int) throws -> String? {
        let range: ByteRange
        let before = volume.byteCount
        do {
            let disk = try BlockDevice(opening: FilePath("/dev/\(volume.disk)"), .exclusiveWrite)
            range = try GPTGrower.growLastPartition(of: disk, number: number)
            if range.byteCount != before {
                try disk.dropCache()
                guard disk.rereadPartitionTable() else {
                    return "The stick's partition table has grown; its REFORGE volume follows at the next boot."
                }
            }
        }
        // The size of the new node must match the table: otherwise the kernel read something else.
        guard
            Files.text(FilePath("/sys/class/block/\(volume.node)/size")).flatMap({ UInt64($0) }) == range.byteCount
                / 512
        else { return "warning: \(volume.path) does not match the stick's partition table; it was not changed." }
        let partition = try BlockDevice(opening: FilePath(volume.path), .exclusiveWrite)
        let growth = try ExFATGrower.grow(partition)
        try partition.dropCache()
        guard growth.newClusterCount > growth.oldClusterCount || range.byteCount != before else { return nil }
        let now = UInt64(growth.newClusterCount).multipliedReportingOverflow(by: growth.clusterByteCount).partialValue
        return "The REFORGE volume now fills the stick: \(ByteText.rounded(now))."
    }
}
