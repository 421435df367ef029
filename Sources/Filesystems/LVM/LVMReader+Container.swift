// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

extension LVMReader {
    /// Extents of this physical volume.
    private typealias Extents = Range<UInt64>

    /// Flags of `lib/format_text/flags.c` that a plain volume group, its disk, and a plain logical volume may have.
    private static let plainGroup: Set<String> = ["RESIZEABLE", "READ", "WRITE", "WRITE_LOCKED", "NOAUTOACTIVATE"]
    private static let plainDisk: Set<String> = ["ALLOCATABLE"]
    private static let plainVolume: Set<String> = [
        "READ", "WRITE", "VISIBLE", "FIXED_MINOR", "WRITE_LOCKED", "ACTIVATION_SKIP", "NOAUTOACTIVATE",
    ]
    /// Segment types of `lib/metadata/segtype.h` whose storage is in areas named in the text.
    private static let knownTypes: Set<String> = [
        "linear", "striped", "mirror", "snapshot", "thin", "thin-pool", "cache", "cache-pool", "writecache",
        "integrity",
        "error", "zero", "vdo", "vdo-pool", "raid0", "raid0_meta", "raid1", "raid10", "raid10_near", "raid4", "raid5",
        "raid5_n", "raid5_la", "raid5_ls", "raid5_ra", "raid5_rs", "raid6", "raid6_nc", "raid6_nr", "raid6_zr",
        "raid6_la_6", "raid6_ls_6", "raid6_ra_6", "raid6_rs_6", "raid6_n_6",
    ]

    /// The places of the logical volumes on this disk, and the other used ranges.
    func container(_ info: FilesystemInfo, volumeByteCount: UInt64) throws(FilesystemError) -> Container {
        try checkGroup()
        let place = physicalVolume.extentStart
        let end = try FilesystemError.parsing { () throws(ParsingError) in
            let length = try physicalVolume.extentCount.multiplied(by: group.extentByteCount, "its length")
            return try place.adding(length, "the end of its extents")
        }
        guard end <= volumeByteCount, physicalVolume.deviceByteCount ?? 0 <= volumeByteCount else {
            throw .damaged("its volume group takes it for larger than it is")
        }
        let heap = place..<end
        let labels = 0..<UInt64(LVMLabel.scannedSectors * LVMLabel.sectorSize)
        let areas = label.metadataAreas + label.bootLoaderAreas + (physicalVolume.bootLoaderArea.map { [$0] } ?? [])
        guard !heap.overlaps(labels), !areas.contains(where: heap.overlaps) else {
            throw .damaged("its extents overlap its metadata")
        }
        var container = Container(filesystem: info, alwaysUsed: [0..<place, end..<volumeByteCount] + areas)
        container.filesystem.byteCount = deviceByteCount(endOfExtents: end, volumeByteCount: volumeByteCount)
        container.filesystem.blockSize = Int(exactly: group.extentByteCount)
        // The largest sector size to which all extents are aligned.
        container.filesystem.sectorSize = 1 << min(12, (place | group.extentByteCount).trailingZeroBitCount)
        var taken: [Extents] = []
        let served = servedNames
        for volume in group.logicalVolumes {
            let inner = try self.inner(volume, served: served)
            if case .segments(let segments) = inner.contents {
                taken += segments.map { self.extents(at: $0.place) }
            } else {
                let used = try extentsUsed(by: volume)
                taken += used
                container.alwaysUsed += used.map { bytes(of: $0) }
            }
            // A volume that only serves another one is not listed.
            if volume.status.contains("VISIBLE") { container.inner.append(inner) }
        }
        try checkDisjoint(taken)
        container.filesystem.volumeGroup = facts(endOfExtents: end, resizeObstacle: obstacle(to: container.inner))
        return container
    }

    /// The length of the device that the physical volume was made for or resized to; `nil` if its label has none.
    ///
    /// pvresize does not update the label, and subtracts the start of the extents and a metadata area at the end from
    /// the length in the text (LVM2's `lib/metadata/pv_manip.c`, pv_resize_single, and `_text_pv_resize`).
    private func deviceByteCount(endOfExtents: UInt64, volumeByteCount: UInt64) -> UInt64? {
        let tail = label.metadataAreas.filter { $0.lowerBound >= endOfExtents }.map(\.byteCount).max() ?? 0
        let named = [label.deviceByteCount, physicalVolume.deviceByteCount ?? 0].filter { $0 > 0 }
        let resized = named.compactMap { length -> UInt64? in
            let (shorter, overflow) = length.addingReportingOverflow(physicalVolume.extentStart)
            let (whole, tooLong) = shorter.addingReportingOverflow(tail)
            return overflow || tooLong ? nil : whole
        }
        let possible = (named + resized).filter { $0 >= endOfExtents && $0 <= volumeByteCount }
        return possible.max() ?? (label.deviceByteCount == 0 ? nil : label.deviceByteCount)
    }

    private func checkGroup() throws(FilesystemError) {
        if let odd = group.status.subtracting(Self.plainGroup).sorted().first {
            throw .damaged("its volume group \(group.name) is \(odd)")
        }
        if let odd = physicalVolume.status.subtracting(Self.plainDisk).sorted().first {
            throw .damaged("its volume group \(group.name) calls it \(odd)")
        }
        if let lockType = group.lockType {
            throw .damaged("its volume group \(group.name) is shared between machines (\(lockType))")
        }
        for volume in group.logicalVolumes {
            if volume.status.contains("PVMOVE") || volume.status.contains("LOCKED") {
                throw .damaged("data of its volume group \(group.name) is being moved")
            }
            for segment in volume.segments where !Self.knownTypes.contains(segment.type) {
                throw .damaged("\(group.name)/\(volume.name) is of type \(segment.type), which is not known")
            }
        }
    }

    /// The logical volumes that are components or origins of others: their contents are read through those.
    private var servedNames: Set<String> {
        var names: Set<String> = []
        for volume in group.logicalVolumes {
            for segment in volume.segments {
                if segment.linearArea.map({ area in isPhysical(area.name) }) ?? false { continue }
                names.formUnion(segment.references.map(\.name))
            }
        }
        return names
    }

    private func isPhysical(_ name: String) -> Bool { diskNames.contains(name) }

    private func inner(
        _ volume: LVMVolumeGroup.LogicalVolume, served: Set<String>
    ) throws(FilesystemError) -> InnerPlace {
        var extentCount: UInt64 = 0
        var segments: [VolumeSegment] = []
        for segment in volume.segments {
            guard segment.start == extentCount, segment.extentCount > 0 else {
                throw .damaged("the segments of \(group.name)/\(volume.name) leave gaps or overlap")
            }
            extentCount += segment.extentCount
            guard let area = segment.linearArea, area.name == physicalVolume.name else { continue }
            let place = bytes(of: try checked(area.extent, segment.extentCount, volume))
            segments.append(VolumeSegment(start: try length(of: segment.start, volume), place: place))
        }
        let byteCount = try length(of: extentCount, volume)
        let contents = reasonToClose(volume, served).map { InnerPlace.Contents.closed($0) } ?? .segments(segments)
        return InnerPlace(name: "\(group.name)/\(volume.name)", byteCount: byteCount, contents: contents)
    }

    /// Why a logical volume is not opened; `nil` if it is plain and only on this disk.
    private func reasonToClose(_ volume: LVMVolumeGroup.LogicalVolume, _ served: Set<String>) -> String? {
        guard !volume.segments.isEmpty else { return "it has no extents" }
        if let other = volume.segments.first(where: { $0.linearArea == nil }) {
            let isStriped = other.type == "striped"
            return isStriped ? "it is striped over several areas" : "it is of type \(other.type)"
        }
        let areas = volume.segments.compactMap(\.linearArea?.name)
        guard areas.allSatisfy({ isPhysical($0) }) else { return "it is made of other logical volumes" }
        guard areas.allSatisfy({ $0 == physicalVolume.name }) else {
            return areas.contains(physicalVolume.name) ? "it lies on other disks too" : "it lies on other disks"
        }
        guard !served.contains(volume.name) else { return "another logical volume depends on it" }
        guard volume.status.contains("VISIBLE"), volume.status.contains("READ") else {
            return "it is not a visible one"
        }
        if let odd = volume.status.subtracting(Self.plainVolume).sorted().first { return "it is \(odd)" }
        return nil
    }

    /// All extents of this disk that a volume of any type refers to: at least those that it uses.
    private func extentsUsed(by volume: LVMVolumeGroup.LogicalVolume) throws(FilesystemError) -> [Extents] {
        var used: [Extents] = []
        for segment in volume.segments {
            for reference in segment.references where reference.name == physicalVolume.name {
                guard let extent = reference.extent else {
                    throw .damaged("a segment of \(group.name)/\(volume.name) is not understood")
                }
                // A stripe contains a part of the segment's extents, a mirror all of them.
                let isStriped = segment.type == "striped" && segment.stripeCount == UInt64(segment.references.count)
                let stripes = isStriped ? max(1, UInt64(segment.references.count)) : 1
                let count = segment.extentCount / stripes + (segment.extentCount % stripes == 0 ? 0 : 1)
                used.append(try checked(extent, count, volume))
            }
        }
        return used
    }

    private func checked(
        _ start: UInt64, _ count: UInt64, _ volume: LVMVolumeGroup.LogicalVolume
    ) throws(FilesystemError) -> Extents {
        guard let extents = Extents(offset: start, byteCount: count), extents.upperBound <= physicalVolume.extentCount
        else { throw .damaged("a segment of \(group.name)/\(volume.name) lies outside its disk") }
        return extents
    }

    /// The length in bytes of extents of a logical volume, which may be on other disks.
    private func length(
        of extentCount: UInt64, _ volume: LVMVolumeGroup.LogicalVolume
    ) throws(FilesystemError) -> UInt64 {
        try FilesystemError.parsing { () throws(ParsingError) in
            try extentCount.multiplied(by: group.extentByteCount, "the length of \(group.name)/\(volume.name)")
        }
    }

    /// The bytes of extents inside `extentCount`: their place was checked for overflow.
    private func bytes(of extents: Extents) -> ByteRange {
        let start = physicalVolume.extentStart + extents.lowerBound * group.extentByteCount
        return start..<physicalVolume.extentStart + extents.upperBound * group.extentByteCount
    }

    private func extents(at place: ByteRange) -> Extents {
        let start = (place.lowerBound - physicalVolume.extentStart) / group.extentByteCount
        return start..<start + place.byteCount / group.extentByteCount
    }

    /// No extent belongs to two volumes: one could use it where the other marks it free.
    private func checkDisjoint(_ taken: [Extents]) throws(FilesystemError) {
        var end: UInt64 = 0
        for extents in taken.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            guard extents.lowerBound >= end else { throw .damaged("two of its logical volumes share an extent") }
            end = extents.upperBound
        }
    }
}
