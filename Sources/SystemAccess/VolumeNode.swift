// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// A block device node for one partition of a disk, kept for as long as this object lives.
package final class VolumeNode {
    /// The node.
    package let path: FilePath
    /// Whether the kernel lists it as a partition of its disk.
    package let isPartition: Bool
    private let loop: LoopDevice?
    private let added: (disk: BlockDevice, number: Int)?
    /// A logical volume, and the node of the partition below.
    private let logicalVolume: (active: ActiveLogicalVolume, under: VolumeNode)?

    private init(partition path: FilePath, added: (disk: BlockDevice, number: Int)?) {
        self.path = path
        self.added = added
        isPartition = true
        loop = nil
        logicalVolume = nil
    }

    private init(_ active: ActiveLogicalVolume, under: VolumeNode) {
        path = active.path
        isPartition = under.isPartition
        loop = nil
        added = nil
        logicalVolume = (active, under)
    }

    private init(loop: consuming LoopDevice) {
        path = loop.path
        self.loop = consume loop
        isPartition = false
        added = nil
        logicalVolume = nil
    }

    deinit {
        // Closed before the node below it is removed.
        try? logicalVolume?.active.close()
        if let added { try? added.disk.deletePartitionNode(added.number) }
    }

    /// Finds or creates a node for `volume`: the kernel's own; else one added to the kernel's list
    /// (`BLKPG_ADD_PARTITION`); else a loop device over its range. A logical volume is activated on the node of its
    /// partition.
    package static func make(
        _ volume: BootVolume, of disk: BlockDevice, readOnly: Bool
    ) throws(SystemCallError) -> VolumeNode {
        if let logical = volume.logicalVolume {
            var partition = volume
            partition.number = logical.partition
            partition.logicalVolume = nil
            let under = try make(partition, of: disk, readOnly: readOnly)
            guard let path = volume.mapperPaths.first else {
                throw SystemCallError("activate", logical.name, .invalidArgument)
            }
            return VolumeNode(
                try ActiveLogicalVolume(logical.name, at: FilePath(path), on: under.path, readOnly: readOnly),
                under: under)
        }
        if let name = kernelName(of: disk) {
            if let node = existing(volume, of: name) {
                return VolumeNode(partition: node, added: nil)
            }
            // After a restore, the kernel may not have read the table yet.
            if disk.rereadPartitionTable(), let node = existing(volume, of: name) {
                return VolumeNode(partition: node, added: nil)
            }
            if (try? disk.addPartitionNode(volume.number, volume.range)) != nil {
                if let node = existing(volume, of: name) {
                    return VolumeNode(partition: node, added: (disk, volume.number))
                }
                try? disk.deletePartitionNode(volume.number)
            }
        }
        return VolumeNode(
            loop: try LoopDevice(
                over: disk.path, range: volume.range, readOnly: readOnly, sectorSize: disk.logicalSectorSize))
    }

    /// The kernel's name of a disk; `nil` for a file.
    package static func kernelName(of disk: BlockDevice) -> String? {
        disk.isDevice ? DiskDirectory().kernelName(ofDevice: disk.deviceNumber) : nil
    }

    private static func existing(_ volume: BootVolume, of disk: String) -> FilePath? {
        let node = DiskDirectory().partitionNodes(of: disk)
            .first { $0.number == volume.number && $0.range == volume.range }
        guard let node else { return nil }
        let path = FilePath("/dev/\(node.name)")
        return Files.exists(path) ? path : nil
    }
}
