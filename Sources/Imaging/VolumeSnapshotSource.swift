// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// A consistent view of a disk whose logical volumes are in use: they are read from LVM snapshots, which are removed in
/// any case, and which do not appear in the captured volume group.
///
/// The snapshots of several volumes are made one after the other; each is consistent in itself.
package final class VolumeSnapshotSource: Sendable {
    /// The disk as it was when the snapshots were made, with LVM's metadata of that time: nothing needs patching.
    package let reader: any BlockReader
    /// The volumes with a snapshot, as `group/name`; empty if none was in use.
    package let volumes: [String]

    private let disk: String
    private let tag: ProcessTag
    private let guardian: VolumeSnapshotGuard?
    private let snapshots: Monitor<[VolumeSnapshot]>

    /// Makes a snapshot of each used logical volume on the disk `device`.
    /// - Parameters:
    ///   - guardCommand: the command (a program and its first arguments) of the process that removes the snapshots if
    ///     this process dies. It must call `VolumeSnapshotGuard.run` with the added argument.
    ///   - allowUncovered: called before the first snapshot if parts of the disk may change without a snapshot, with
    ///     their mount points and the paths of open volumes. Throws to refuse the capture.
    ///   - cancellation: ends the work before the next snapshot.
    ///   - note: receives sentences on the steps and findings.
    /// - Throws: `refused` if a snapshot is not possible: wrong type or place of the volume, or too little space.
    package static func begin(
        device: BlockDevice, guardCommand: [String] = ["/proc/self/exe", "snapshot-guard"],
        allowUncovered: ([String]) throws(ImagingError) -> Void, cancellation: Cancellation, note: (String) -> Void
    ) throws(ImagingError) -> VolumeSnapshotSource {
        do {
            return try make(device, guardCommand, allowUncovered, cancellation, note)
        } catch let error as LogicalVolumeError {
            throw .failed("The snapshots could not be made: \(error)")
        } catch {
            throw ImagingError(error)
        }
    }

    /// Whether snapshots can cover a use of a disk; only `begin` finds out whether they do.
    package static func covers(_ use: DiskUse) -> Bool { DiskDirectory().goesThroughLogicalVolumes(use) }

    /// Call this after everything was read, before anything is published; also after a failed read, for the reason.
    /// - Throws: if a snapshot ran out of space, which invalidates the data read from it, or if a volume without a
    ///   snapshot came into use.
    package func check() throws(ImagingError) {
        guard guardian != nil else { return }
        let names = snapshots.update { $0.map(\.fullName) }
        let states: [LogicalVolumes.SnapshotState]
        let used: [LogicalVolumes.Volume]
        do {
            states = try LogicalVolumes.snapshots(tagged: tag.text)
            used = try VolumeSnapshotPlan.volumesInUse(LogicalVolumes.survey(), disk: disk)
        } catch {
            throw .failed("The state of the snapshots could not be determined: \(error)")
        }
        for name in names {
            guard let state = states.first(where: { $0.fullName == name }) else {
                throw .failed("The snapshot \(name) is gone: it was removed during the capture. Run the capture again.")
            }
            guard !state.isInvalid else { throw Self.outOfRoom(name) }
        }
        if let volume = used.first(where: { !volumes.contains($0.fullName) }) {
            throw .failed(
                "\(volume.fullName) came into use while the disk was read, and has no snapshot. Run the capture again.")
        }
    }

    static func outOfRoom(_ name: String) -> ImagingError {
        .failed(
            "The snapshot \(name) ran out of room while the disk was read: more was written to its volume than the group's free space could hold. Free some space in the volume group, or capture when less is written."
        )
    }

    /// Removes the snapshots; reads through `reader` fail afterwards. May be called twice.
    /// - Throws: the snapshots that could not be removed, and the command for it.
    package func end() throws(ImagingError) {
        let open = snapshots.update { list in
            let all = list
            list = []
            return all
        }
        for snapshot in open { snapshot.close() }
        var failures: [String] = []
        for snapshot in open {
            do { try LogicalVolumes.removeSnapshot(snapshot.fullName) } catch {
                failures.append("\(snapshot.fullName) (\(error))")
            }
        }
        // The guard tries again to remove what is left.
        guardian?.end(allIsRemoved: failures.isEmpty)
        guard failures.isEmpty else {
            throw .failed(
                "Snapshots could not be removed: \(failures.joined(separator: "; ")). The next capture tries again; `lvremove NAME` removes one by hand."
            )
        }
    }

    deinit { try? end() }

    private init(
        reader: any BlockReader, disk: String, tag: ProcessTag, volumes: [String], guardian: VolumeSnapshotGuard?,
        snapshots: [VolumeSnapshot]
    ) {
        self.reader = reader
        self.disk = disk
        self.tag = tag
        self.volumes = volumes
        self.guardian = guardian
        self.snapshots = Monitor(snapshots)
    }

    private static func make(
        _ device: BlockDevice, _ guardCommand: [String], _ allowUncovered: ([String]) throws(ImagingError) -> Void,
        _ cancellation: Cancellation, _ note: (String) -> Void
    ) throws -> VolumeSnapshotSource {
        guard device.isDevice, let disk = DiskDirectory().kernelName(ofDevice: device.deviceNumber) else {
            throw ImagingError.refused("\(device.name) is not a disk of this machine: it cannot have LVM snapshots.")
        }
        let tag = ProcessTag.own()
        try VolumeSnapshotGuard.removeLeftovers(note)
        let before = try LogicalVolumes.survey()
        let plan = try VolumeSnapshotPlan(before, disk: disk)
        let uncovered = plan.uncovered(before, disk: disk)
        if !uncovered.isEmpty { try allowUncovered(uncovered) }
        guard !plan.volumes.isEmpty else {
            note("No logical volume on \(device.name) is in use: it is read as it is.")
            return VolumeSnapshotSource(
                reader: device, disk: disk, tag: tag, volumes: [], guardian: nil, snapshots: [])
        }
        var overlays = try metadataOverlays(plan.metadataRanges, device)
        let guardian = try VolumeSnapshotGuard(command: guardCommand, tag: tag)
        var opened: [VolumeSnapshot] = []
        do {
            try createSnapshots(of: plan.volumes, tag, cancellation, note)
            let after = try LogicalVolumes.survey()
            for wanted in plan.volumes {
                let snapshot = try VolumeSnapshot(of: wanted.volume, in: after, tag: tag)
                opened.append(snapshot)
                for piece in wanted.pieces {
                    overlays.append(.init(piece.range, from: snapshot, at: piece.offset))
                }
            }
            // The snapshots' own extents are free in the captured group.
            for range in try VolumeSnapshotPlan.ranges(
                of: after.volumes.filter { $0.tags.contains(tag.text) }, in: after, disk: disk)
            {
                overlays.append(.init(range, from: ZeroReader(byteCount: range.byteCount), at: 0))
            }
            try device.dropCache()
            guard let reader = OverlayReader(device, overlays: overlays) else {
                throw ImagingError.failed("LVM lists extents of \(device.name) that overlap, or lie outside it.")
            }
            return VolumeSnapshotSource(
                reader: reader, disk: disk, tag: tag, volumes: plan.volumes.map(\.volume.fullName), guardian: guardian,
                snapshots: opened)
        } catch {
            for snapshot in opened { snapshot.close() }
            guardian.end(allIsRemoved: VolumeSnapshotGuard.removeAll(tag, { _ in }).isEmpty)
            throw error
        }
    }

    /// Copies the groups' metadata into memory, before it contains the snapshots.
    private static func metadataOverlays(
        _ ranges: [ByteRange], _ device: BlockDevice
    ) throws -> [OverlayReader.Overlay] {
        // Read past the cache, which does not see LVM's writes.
        let plainReader: any BlockReader
        if let direct = DirectReader(device) {
            plainReader = direct
        } else {
            try device.dropCache()
            plainReader = device
        }
        var overlays: [OverlayReader.Overlay] = []
        for range in ranges {
            let bytes = try plainReader.readBytes(at: range.lowerBound, count: Int(range.byteCount))
            overlays.append(.init(range, from: MemoryReader(bytes, name: device.name), at: 0))
        }
        return overlays
    }

    private static func createSnapshots(
        of volumes: [VolumeSnapshotPlan.Wanted], _ tag: ProcessTag, _ cancellation: Cancellation,
        _ note: (String) -> Void
    ) throws {
        for wanted in volumes {
            try cancellation.check()
            let name = "\(VolumeSnapshotGuard.namePrefix)\(SystemFacts.processID)-\(wanted.volume.name)"
            note(
                "Snapshot of \(wanted.volume.fullName): room for \(ByteText.rounded(wanted.roomByteCount)) of changes.")
            try LogicalVolumes.createSnapshot(
                of: wanted.volume.fullName, named: name, tags: [VolumeSnapshotGuard.tag, tag.text],
                extentCount: wanted.extentCount)
        }
    }
}
