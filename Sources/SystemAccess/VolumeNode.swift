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
    /// What is open on the node below: a logical volume, LUKS, an array.
    private let layer: Layer?
    /// The nodes below, from the outermost on.
    private let under: [VolumeNode]

    private enum Layer {
        case logicalVolume(ActiveLogicalVolume)
        case luks(OpenedLUKS)
        case mirror(AssembledMirror)
    }

    private init(partition path: FilePath, added: (disk: BlockDevice, number: Int)?) {
        self.path = path
        self.added = added
        isPartition = true
        loop = nil
        layer = nil
        under = []
    }

    private init(_ layer: Layer, on under: [VolumeNode]) {
        path =
            switch layer {
            case .logicalVolume(let active): active.path
            case .luks(let opened): opened.path
            case .mirror(let mirror): mirror.path
            }
        isPartition = under.allSatisfy(\.isPartition)
        loop = nil
        added = nil
        self.layer = layer
        self.under = under
    }

    /// - Parameter isPartition: whether the place stands for a partition that the kernel lists.
    private init(loop: consuming LoopDevice, isPartition: Bool = false, on under: [VolumeNode] = []) {
        path = loop.path
        self.loop = consume loop
        self.isPartition = isPartition
        added = nil
        layer = nil
        self.under = under
    }

    deinit {
        // Closed before the nodes below are removed.
        switch layer {
        case .logicalVolume(let active): try? active.close()
        case .luks(let opened): opened.close()
        case .mirror(let mirror): mirror.stop()
        case nil: break
        }
        if let added { Self.remove(added.number, of: added.disk) }
    }

    /// Removes an added node. Retries while it is in use: the end of a mount namespace, or a child just forked by
    /// another thread, holds it a moment longer. A node that stays outlives a detached loop device.
    private static func remove(_ number: Int, of disk: BlockDevice) {
        let deadline = SystemFacts.monotonicSeconds() + 10
        while true {
            do throws(SystemCallError) { return try disk.deletePartitionNode(number) } catch {
                guard error.errno == .resourceBusy, SystemFacts.monotonicSeconds() < deadline else { return }
                SystemFacts.sleep(seconds: 0.02)
            }
        }
    }

    /// The device-mapper and md nodes that it is made of, with the name of a mapping: programs that look at what is
    /// below a filesystem need them.
    package var layers: [(path: FilePath, mapping: String?)] {
        let below = under.flatMap(\.layers)
        return switch layer {
        case .luks(let opened): below + [(path, opened.node)]
        case .mirror: below + [(path, nil)]
        case .logicalVolume, nil: below
        }
    }

    /// Finds or creates a node for `volume`: the kernel's own; else one added to the kernel's list
    /// (`BLKPG_ADD_PARTITION`); else a loop device over its range. A container is opened on the node of its partition,
    /// and a logical volume activated on that.
    /// - Parameter keys: the files with the keys of LUKS volumes.
    package static func make(
        _ volume: BootVolume, of disk: BlockDevice, readOnly: Bool, keys: [FilePath] = []
    ) throws(SystemCallError) -> VolumeNode {
        guard volume.isPartition else {
            var node = try makePartition(volume.partitionNumber, volume.range, of: disk, readOnly: readOnly)
            for container in volume.inside?.containers ?? [] {
                node = try open(container, volume, on: node, of: disk, readOnly: readOnly, keys)
            }
            guard let logical = volume.logicalVolume else { return node }
            guard let path = volume.mapperPaths.first else {
                throw SystemCallError("activate", logical.name, .invalidArgument)
            }
            let active = try ActiveLogicalVolume(
                logical.name, at: FilePath(path), on: node.path, readOnly: readOnly)
            return VolumeNode(.logicalVolume(active), on: [node])
        }
        return try makePartition(volume.number, volume.range, of: disk, readOnly: readOnly)
    }

    private static func open(
        _ container: BootVolume.Container, _ volume: BootVolume, on node: VolumeNode, of disk: BlockDevice,
        readOnly: Bool,
        _ keys: [FilePath]
    ) throws(SystemCallError) -> VolumeNode {
        switch container {
        case .luks(_, _, let mapping):
            for key in keys {
                do throws(LUKSOpenError) {
                    let opened = try OpenedLUKS(
                        device: node.path, keyFile: key, readOnly: readOnly, mapping: readOnly ? nil : mapping)
                    return VolumeNode(.luks(opened), on: [node])
                } catch {
                    guard case .impossible(let reason) = error else { continue }
                    throw SystemCallError("open", "\(volume.place): \(reason)", .invalidArgument)
                }
            }
            throw SystemCallError("open", "\(volume.place): no given key opens it", .permissionDenied)
        case .mirror(_, let contents, let members):
            if readOnly {
                // A started array writes to its members, also a read-only one to its superblocks: a look needs none.
                let loop = try LoopDevice(
                    over: node.path, range: contents, readOnly: true, sectorSize: disk.logicalSectorSize)
                return VolumeNode(loop: loop, isPartition: node.isPartition, on: [node])
            }
            var nodes = [node]
            for number in members where number != volume.partitionNumber {
                if let name = kernelName(of: disk),
                    let other = DiskDirectory().partitionNodes(of: name).first(where: { $0.number == number })
                {
                    nodes.append(try makePartition(number, other.range, of: disk, readOnly: false))
                }
            }
            return VolumeNode(.mirror(try AssembledMirror(of: nodes.map(\.path))), on: nodes)
        }
    }

    private static func makePartition(
        _ number: Int, _ range: ByteRange, of disk: BlockDevice, readOnly: Bool
    ) throws(SystemCallError) -> VolumeNode {
        if let name = kernelName(of: disk) {
            if let node = existing(number, range, of: name) {
                return VolumeNode(partition: node, added: nil)
            }
            // After a restore, the kernel may not have read the table yet.
            if disk.rereadPartitionTable(), let node = existing(number, range, of: name) {
                return VolumeNode(partition: node, added: nil)
            }
            // What the kernel still lists there is of an older table, or of an older use of a loop device.
            for stale in DiskDirectory().partitionNodes(of: name)
            where stale.number == number || stale.range.overlaps(range) {
                // One that is in use stays.
                try? disk.deletePartitionNode(stale.number)
            }
            if (try? disk.addPartitionNode(number, range)) != nil {
                if let node = existing(number, range, of: name) {
                    return VolumeNode(partition: node, added: (disk, number))
                }
                try? disk.deletePartitionNode(number)
            }
        }
        return VolumeNode(
            loop: try LoopDevice(over: disk.path, range: range, readOnly: readOnly, sectorSize: disk.logicalSectorSize))
    }

    /// The kernel's name of a disk; `nil` for a file.
    package static func kernelName(of disk: BlockDevice) -> String? {
        disk.isDevice ? DiskDirectory().kernelName(ofDevice: disk.deviceNumber) : nil
    }

    private static func existing(_ number: Int, _ range: ByteRange, of disk: String) -> FilePath? {
        let node = DiskDirectory().partitionNodes(of: disk).first { $0.number == number && $0.range == range }
        guard let node else { return nil }
        let path = FilePath("/dev/\(node.name)")
        return Files.exists(path) ? path : nil
    }
}
