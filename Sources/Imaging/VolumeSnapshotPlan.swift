// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// The volumes that get a snapshot, with its size, and their places on the disk.
struct VolumeSnapshotPlan {
    /// A volume that gets a snapshot.
    struct Wanted {
        var volume: LogicalVolumes.Volume
        /// Its parts: their ranges on the disk, and their offsets in the volume.
        var pieces: [(range: ByteRange, offset: UInt64)]
        var extentCount: UInt64
        var roomByteCount: UInt64
    }

    /// The used volumes on the disk.
    var volumes: [Wanted] = []
    /// The ranges of the disk with LVM metadata of these volumes' groups.
    var metadataRanges: [ByteRange] = []

    /// Upper bound on LVM metadata.
    private static let metadataLimit: UInt64 = 64 << 20
    /// The least space for changes of a volume, unless the volume is smaller.
    private static let leastRoom: UInt64 = 256 << 20

    /// Plans for the volumes of `lvm` on a disk.
    /// - Throws: `ImagingError.refused` if a volume in use cannot have a snapshot.
    init(_ lvm: LogicalVolumes, disk: String) throws(ImagingError) {
        try self.init(
            lvm, starts: Self.starts(of: lvm.physicalVolumes, on: disk), isInUse: { Self.isInUse($0) })
    }

    /// Plans from given facts, for tests.
    /// - Parameter starts: the start of each physical volume on the disk, by path.
    init(
        _ lvm: LogicalVolumes, starts: [String: UInt64], isInUse: (LogicalVolumes.Volume) -> Bool
    ) throws(ImagingError) {
        let physical = lvm.physicalVolumes.filter { starts[$0.path] != nil }
        let groups = Set(physical.map(\.group)).subtracting([""])
        var usedGroups: Set<String> = []
        for volume in lvm.volumes where groups.contains(volume.group) {
            if volume.isSnapshot, volume.isActive, Self.touches(volume, starts) {
                let advice =
                    volume.tags.contains(VolumeSnapshotGuard.tag)
                    ? "Another capture made it and is still at work: wait for its end."
                    : "Remove it first: `lvremove \(volume.fullName)`."
                throw .refused(
                    "\(volume.fullName) is a snapshot of \(volume.origin) and changes while the disk is read. \(advice)"
                )
            }
            guard volume.isOpen, isInUse(volume) else { continue }
            guard volume.isLinear else {
                let isElsewhere =
                    volume.segments.allSatisfy { segment in
                        !segment.places.isEmpty
                            && segment.places.allSatisfy { place in
                                starts[place.device] == nil && lvm.physicalVolumes.contains { $0.path == place.device }
                            }
                    }
                if isElsewhere { continue }
                let type = volume.segments.first.map(\.type) ?? "unknown"
                throw .refused(
                    "\(volume.fullName) is in use and is of type \(type): --snapshot takes plain (linear) volumes only. Unmount it, or capture the disk while the machine runs from the recovery medium."
                )
            }
            guard Self.touches(volume, starts) else { continue }
            usedGroups.insert(volume.group)
            volumes.append(
                Wanted(
                    volume: volume, pieces: try Self.pieces(of: volume, lvm, starts, whole: true), extentCount: 0,
                    roomByteCount: 0))
        }
        for group in usedGroups.sorted() { try share(group, physical) }
        for volume in physical where usedGroups.contains(volume.group) {
            try addMetadata(of: volume, at: starts[volume.path] ?? 0)
        }
    }

    /// The uses that may change the disk although the volumes of this plan have snapshots: mount points, and open
    /// volumes. A volume on anything but the disk and its partitions (LUKS, RAID) is in no plan.
    func uncovered(_ lvm: LogicalVolumes, disk: String) -> [String] {
        let held = Set(volumes.compactMap { Self.kernelName($0.volume) })
        var open: [String: String] = [:]
        for volume in lvm.volumes where volume.isOpen && Self.isInUse(volume) {
            if let name = Self.kernelName(volume) { open[name] = "/dev/\(volume.fullName)" }
        }
        return Self.uncovered(DiskDirectory().uses(of: disk, notThrough: held), open: open)
    }

    /// The uncovered uses, from given facts.
    /// - Parameters:
    ///   - uses: the uses of the disk that do not go through a volume with a snapshot.
    ///   - open: the paths of volumes in use, by the kernel's names.
    static func uncovered(_ uses: [DiskUse], open: [String: String]) -> [String] {
        let mounted: [String: String] = uses.reduce(into: [:]) { mounted, use in
            if case .mounted(let node, let place, false) = use { mounted[node] = place }
        }
        return uses.compactMap { use in
            switch use {
            case .mounted(_, let place, false): place
            case .held(_, _, let holder): mounted[holder] == nil ? open[holder] : nil
            case .mounted, .swap: nil
            }
        }
    }

    /// Divides a group's free extents among the snapshots of its volumes.
    private mutating func share(_ group: String, _ physical: [LogicalVolumes.PhysicalVolume]) throws(ImagingError) {
        guard let any = physical.first(where: { $0.group == group }), any.extentByteCount > 0 else {
            throw .failed("LVM names no extent size of the volume group \(group).")
        }
        let indices = volumes.indices.filter { volumes[$0].volume.group == group }
        let free = any.groupFreeExtentCount
        guard free >= UInt64(indices.count) else {
            throw .refused(
                "The volume group \(group) has \(free == 0 ? "no free space" : "only \(free) free extents"), and snapshots need some for blocks that are overwritten while the disk is read. Free some (`lvreduce`, `lvremove`), or add a disk to the group (`vgextend`)."
            )
        }
        var left = free
        var wanted: [UInt64] = []
        for index in indices {
            let size = volumes[index].volume.byteCount
            // At most what the volume and the snapshot's own tables (16 bytes for each 4 KiB) can fill.
            let most = size.addingReportingOverflow(size / 64).partialValue / any.extentByteCount + 2
            wanted.append(min(most, max(size / 5, Self.leastRoom) / any.extentByteCount + 1))
        }
        let sum: UInt64 = wanted.reduce(0) { sum, count in
            let (result, overflow) = sum.addingReportingOverflow(count)
            return overflow ? .max : result
        }
        for (number, (index, count)) in zip(indices, wanted).enumerated() {
            // The volumes after this one keep an extent each.
            let most = left - UInt64(indices.count - 1 - number)
            let part = sum <= free ? count : sum.dividingFullWidth(free.multipliedFullWidth(by: count)).quotient
            let given = max(1, min(part, most))
            left -= given
            volumes[index].extentCount = given
            volumes[index].roomByteCount = given.multipliedReportingOverflow(by: any.extentByteCount).partialValue
        }
    }

    private mutating func addMetadata(of volume: LogicalVolumes.PhysicalVolume, at start: UInt64) throws(ImagingError) {
        let refusal = ImagingError.refused("The physical volume \(volume.path) has metadata of an impossible size.")
        guard volume.dataStart <= Self.metadataLimit, let head = ByteRange(offset: start, byteCount: volume.dataStart)
        else { throw refusal }
        metadataRanges.append(head)
        guard volume.metadataAreaCount > 1 else { return }
        let (data, overflow) = volume.extentCount.multipliedReportingOverflow(by: volume.extentByteCount)
        let (dataEnd, overflow2) = data.addingReportingOverflow(volume.dataStart)
        guard !overflow, !overflow2, dataEnd <= volume.byteCount, volume.byteCount - dataEnd <= Self.metadataLimit,
            let all = ByteRange(offset: start, byteCount: volume.byteCount)
        else { throw refusal }
        metadataRanges.append(start + dataEnd..<all.upperBound)
    }

    /// The ranges of volumes on a disk; parts elsewhere are left out.
    static func ranges(
        of volumes: [LogicalVolumes.Volume], in lvm: LogicalVolumes, disk: String
    ) throws(ImagingError) -> [ByteRange] {
        let starts = Self.starts(of: lvm.physicalVolumes, on: disk)
        var ranges: [ByteRange] = []
        for volume in volumes { ranges += try pieces(of: volume, lvm, starts, whole: false).map(\.range) }
        return ranges
    }

    /// The volumes in use that lie on a disk, at least in part.
    static func volumesInUse(_ lvm: LogicalVolumes, disk: String) -> [LogicalVolumes.Volume] {
        let starts = Self.starts(of: lvm.physicalVolumes, on: disk)
        return lvm.volumes.filter { volume in
            !volume.tags.contains(VolumeSnapshotGuard.tag) && volume.isOpen && touches(volume, starts)
                && isInUse(volume)
        }
    }

    private static func touches(_ volume: LogicalVolumes.Volume, _ starts: [String: UInt64]) -> Bool {
        volume.segments.contains { $0.places.contains { starts[$0.device] != nil } }
    }

    /// The parts of a volume on the disk.
    /// - Parameter whole: whether a part elsewhere is refused; otherwise it is left out.
    private static func pieces(
        of volume: LogicalVolumes.Volume, _ lvm: LogicalVolumes, _ starts: [String: UInt64], whole: Bool
    ) throws(ImagingError) -> [(range: ByteRange, offset: UInt64)] {
        var pieces: [(range: ByteRange, offset: UInt64)] = []
        for segment in volume.segments {
            for place in segment.places {
                guard let start = starts[place.device],
                    let physical = lvm.physicalVolumes.first(where: { $0.path == place.device })
                else {
                    guard whole else { continue }
                    throw .refused(
                        "\(volume.fullName) is in use and lies on several disks (a part is on \(place.device)): one disk's capture would hold a part of it. Move it to one disk (`pvmove`), unmount it, or capture the disks while the machine runs from the recovery medium."
                    )
                }
                let (offset, overflow) = place.extent.multipliedReportingOverflow(by: physical.extentByteCount)
                let (inside, overflow2) = offset.addingReportingOverflow(physical.dataStart)
                let (absolute, overflow3) = inside.addingReportingOverflow(start)
                guard !overflow, !overflow2, !overflow3, inside <= physical.byteCount,
                    segment.byteCount <= physical.byteCount - inside,
                    let range = ByteRange(offset: absolute, byteCount: segment.byteCount)
                else { throw .failed("LVM lists extents of \(volume.fullName) outside \(place.device).") }
                pieces.append((range, segment.start))
            }
        }
        return pieces
    }

    /// The start of each physical volume on a disk, by path.
    private static func starts(of volumes: [LogicalVolumes.PhysicalVolume], on disk: String) -> [String: UInt64] {
        let directory = DiskDirectory()
        let nodes = directory.partitionNodes(of: disk)
        var starts: [String: UInt64] = [:]
        for volume in volumes {
            guard let status = try? Stat(FilePath(volume.path)), status.type == .blockSpecial,
                let name = directory.kernelName(ofDevice: UInt64(status.specialDeviceID.rawValue))
            else { continue }
            if name == disk { starts[volume.path] = 0 }
            if let node = nodes.first(where: { $0.name == name }) { starts[volume.path] = node.range.lowerBound }
        }
        return starts
    }

    /// The kernel's name of a volume's device; `nil` for an inactive volume.
    private static func kernelName(_ volume: LogicalVolumes.Volume) -> String? {
        guard let number = volume.deviceNumber else { return nil }
        return Files.realPath(FilePath("/sys/dev/block/\(number.major):\(number.minor)"))?.lastComponent?.string
    }

    /// Whether an open volume may change: not if it is used only as swap (whose contents mean nothing after a restore),
    /// or only mounted read-only.
    private static func isInUse(_ volume: LogicalVolumes.Volume) -> Bool {
        let uses = kernelName(volume).map { DiskDirectory().uses(of: $0) } ?? []
        return uses.isEmpty
            || !uses.allSatisfy { use in
                switch use {
                case .mounted(_, _, let isReadOnly): isReadOnly
                case .swap: true
                case .held: false
                }
            }
    }
}
