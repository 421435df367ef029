// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel

/// Plans the restore of a disk with a partition table, region by region.
struct TablePlanner {
    private let header: ImageHeader
    private let geometry: DiskGeometry
    private let request: LayoutRequest
    private let obstacles: ResizeObstacles
    /// The change of the table, if `header` has a converted one.
    private let conversion: TableConversion?
    /// The resize abilities of partitions, by number.
    private let abilities: [Int: PartitionAbility]
    /// The places of partitions, by number, including an extended partition.
    private let placements: [Int: DiskLayout.Placement]
    /// The places of volumes, in bytes of the target.
    private let volumePlaces: [ByteRange]
    private var plan: RestorePlan
    private var shrunkRegions: [Int] = []
    private var remadeRegions: [Int] = []

    private var manifest: Manifest { header.manifest }
    private var isSameSize: Bool { geometry.byteCount == manifest.geometry.byteCount }

    /// The plan for all regions of `header`.
    /// - Throws: `ImagingError.refused` if the partitions cannot be laid out.
    static func plan(
        _ header: ImageHeader, _ target: DiskIdentity, _ geometry: DiskGeometry, _ request: LayoutRequest,
        _ obstacles: ResizeObstacles, _ conversion: TableConversion? = nil
    ) throws(ImagingError) -> RestorePlan {
        var planner = try TablePlanner(header, target, geometry, request, obstacles, conversion)
        for (region, map) in zip(header.manifest.regions, header.maps) { try planner.add(region, map) }
        planner.placeSpills()
        try planner.addPartition()
        return planner.plan
    }

    private init(
        _ header: ImageHeader, _ target: DiskIdentity, _ geometry: DiskGeometry, _ request: LayoutRequest,
        _ obstacles: ResizeObstacles, _ conversion: TableConversion?
    ) throws(ImagingError) {
        let manifest = header.manifest
        let abilities = RestorePlanner.abilities(
            manifest, header.maps, sectorSize: geometry.logicalSectorSize, obstacles: obstacles)
        let layout: DiskLayout
        do { layout = try RestorePlanner.layout(header, geometry, request, abilities) } catch {
            throw .refused("\(error)")
        }
        let volumes = Set(manifest.table.partitions.filter(\.isVolume).map(\.number))
        self.header = header
        self.geometry = geometry
        self.request = request
        self.obstacles = obstacles
        self.conversion = conversion
        self.abilities = abilities
        placements = Dictionary(layout.placements.map { ($0.number, $0) }, uniquingKeysWith: { first, _ in first })
        volumePlaces = layout.placements.filter { volumes.contains($0.number) }.map(\.to)
        plan = RestorePlan(
            imageUUID: manifest.imageUUID, target: target, geometry: geometry, request: request, items: [],
            destinations: [], placements: layout.placements,
            tableIsUnchanged: conversion == nil && Self.isUnchanged(manifest, layout, on: geometry), growths: [],
            shrinks: [], warnings: layout.remarks.map(RestorePlan.Warning.layout))
    }

    /// Whether the captured table fits the target to the bit.
    private static func isUnchanged(_ manifest: Manifest, _ layout: DiskLayout, on geometry: DiskGeometry) -> Bool {
        // An MBR does not depend on the disk's end.
        let isSameEnd = geometry.byteCount == manifest.geometry.byteCount || manifest.table.kind == .mbr
        return manifest.geometry.logicalSectorSize == geometry.logicalSectorSize && isSameEnd
            && manifest.table.condition == .intact && layout.placements.count == manifest.table.partitions.count
            && layout.placements.allSatisfy { $0.from == $0.to }
    }

    // MARK: regions

    private mutating func add(_ region: Manifest.Region, _ map: AllocationMap) throws(ImagingError) {
        guard let number = region.partition else { return addGap(region) }
        guard let placement = placements[number] else {
            plan.destinations.append(.skipped)
            plan.warnings.append(.leftOut(partition: number))
            return
        }
        guard let partition = manifest.table.partitions.first(where: { $0.number == number }) else {
            return addGap(region)
        }
        try add(partition, region, map, at: placement)
    }

    /// Restores a gap to its place, unless a partition or the backup table will be there. The gap at the end holds the
    /// old backup table, which does not belong in the middle of a larger disk.
    private mutating func addGap(_ region: Manifest.Region) {
        if let conversion, replaces(region, conversion) {
            plan.destinations.append(.skipped)
            return
        }
        let isEnd = region.range.upperBound == manifest.geometry.byteCount
        let backupByteCount = manifest.table.backupByteCount(
            on: manifest.geometry, forSectorsOf: geometry.logicalSectorSize)
        let isFree =
            region.range.upperBound <= geometry.byteCount - min(backupByteCount, geometry.byteCount)
            && !volumePlaces.contains { $0.overlaps(region.range) }
        let isSame = plan.tableIsUnchanged && isSameSize
        let isRestored = isEnd ? isSame : isFree || isSame
        plan.destinations.append(isRestored ? .disk(offset: region.range.lowerBound) : .skipped)
        // Gaps around boot records inside an extended partition need no warning.
        let isInside = manifest.table.partitions.contains { !$0.isVolume && $0.range.covers(region.range) }
        if !isRestored, region.usedByteCount > 0, !isEnd, !isInside {
            plan.warnings.append(.gapLeftOut(region.range))
        }
        // A shorter one is alignment and the backup table.
        if !isRestored, isEnd, region.usedByteCount > CapturePlanner.longestKeptGap {
            plan.warnings.append(.endLeftOut(region.range))
        }
    }

    private mutating func add(
        _ partition: Partition, _ region: Manifest.Region, _ map: AllocationMap, at placement: DiskLayout.Placement
    ) throws(ImagingError) {
        var actions: [RestorePlan.Action] = [.restore]
        var volumeByteCounts: [UInt64]?
        if placement.isMoved { actions.append(.move) }
        if let filesystem = region.filesystem, RestorePlanner.isRemade(filesystem, manifest, geometry) {
            actions.append(.remake)
            addRemake(of: filesystem, region, at: placement)
        } else if placement.isShrunk {
            actions.append(.shrink)
            volumeByteCounts = try addShrink(region, map, at: placement)
        } else {
            plan.destinations.append(.disk(offset: placement.to.lowerBound))
        }
        // A length that is only rounded up to the target's sectors needs no growth.
        let content = contentByteCount(region, map, placement)
        let whole = content.roundedUp(toMultipleOf: UInt64(geometry.logicalSectorSize)) ?? .max
        if placement.to.byteCount > whole, let filesystem = region.filesystem,
            abilities[placement.number]?.canGrow == true
        {
            actions.append(.grow)
            volumeByteCounts = try RestorePlanner.grownLengths(filesystem, on: placement.to, request.policy, obstacles)
            plan.growths.append(
                .init(
                    number: placement.number, isLate: false, range: placement.to, filesystem: filesystem,
                    volumeByteCounts: volumeByteCounts))
        }
        if region.usedByteCount == 0 { actions = [placement.isMoved ? .moveUnused : .leaveUnused] }
        plan.items.append(
            .init(
                number: placement.number, name: partition.name, type: partition.typeName,
                filesystem: region.filesystem?.kindName ?? "unknown", label: region.filesystem?.label,
                from: placement.from, to: placement.to, usedByteCount: region.usedByteCount, actions: actions,
                volumes: RestorePlanner.volumeSizes(region.filesystem, volumeByteCounts)))
    }

    /// The length that the content has before it grows: that of the partition, or of a filesystem that another tool made
    /// smaller and that fills its partition again.
    private func contentByteCount(
        _ region: Manifest.Region, _ map: AllocationMap, _ placement: DiskLayout.Placement
    ) -> UInt64 {
        guard let filesystem = region.filesystem, let length = filesystem.byteCount,
            RestorePlanner.isShortAndAlone(filesystem, region.range, map)
        else { return placement.from.byteCount }
        return length
    }

    // MARK: a converted table

    /// Whether a gap holds what a converted table replaces: the boot code and core.img behind an MBR, the extended boot
    /// records, or the space in front of the first MiB where the BIOS boot partition will be.
    private func replaces(_ region: Manifest.Region, _ conversion: TableConversion) -> Bool {
        if region.range.lowerBound == 0 {
            let added = conversion.added.flatMap { placements[$0.number]?.to }
            return conversion.replacesMBR || added?.overlaps(region.range) == true
        }
        return conversion.extended.contains { $0.covers(region.range) }
    }

    /// Adds the partition for the loader, which no region of the image fills.
    private mutating func addPartition() throws(ImagingError) {
        guard var conversion else { return }
        defer { plan.conversion = conversion }
        guard var added = conversion.added else { return }
        guard let index = plan.placements?.firstIndex(where: { $0.number == added.number }),
            let place = plan.placements?[index].to
        else { throw .refused("partition \(added.number) is made for the loader, and cannot be left out") }
        plan.placements?[index].from = place
        added.range = place
        conversion.added = added
        plan.items.append(
            .init(
                number: added.number, name: added.name, type: added.typeName,
                filesystem: conversion.goal == .uefi ? "vfat" : "core.img", label: nil,
                from: place.lowerBound..<place.lowerBound, to: place, usedByteCount: 0, actions: [.make], volumes: nil))
    }

    // MARK: spills to the scratch

    private mutating func addRemake(
        of filesystem: FilesystemInfo, _ region: Manifest.Region, at placement: DiskLayout.Placement
    ) {
        remadeRegions.append(plan.destinations.count)
        plan.destinations.append(.skipped)
        plan.remakes.append(
            .init(
                number: placement.number, range: placement.to, fromByteCount: region.range.byteCount,
                scratchByteCount: region.usedByteCount, filesystem: filesystem))
    }

    /// - Returns: the new lengths of the logical volumes; `nil` for anything but LVM.
    private mutating func addShrink(
        _ region: Manifest.Region, _ map: AllocationMap, at placement: DiskLayout.Placement
    ) throws(ImagingError) -> [UInt64]? {
        guard let filesystem = region.filesystem else {
            throw .failed(
                "partition \(placement.number) cannot shrink: its contents are unknown")
        }
        let length = placement.to.byteCount
        let volumeByteCounts = try RestorePlanner.volumeLengths(filesystem, on: placement.to, request.policy)
        let behind = map.ranges(in: length..<map.byteCount).reduce(0) { $0 + $1.byteCount }
        shrunkRegions.append(plan.destinations.count)
        plan.destinations.append(.skipped)
        plan.shrinks.append(
            .init(
                number: placement.number, range: placement.to, fromByteCount: region.range.byteCount,
                scratchByteCount: RestorePlanner.scratchLength(
                    filesystem, volumeByteCounts, in: length, behind: behind, most: region.range.byteCount - length),
                filesystem: filesystem, volumeByteCounts: volumeByteCounts))
        return volumeByteCounts
    }

    /// Sets the scratch places, which are known once all spills are.
    private mutating func placeSpills() {
        for (region, spill) in zip(shrunkRegions + remadeRegions, plan.spills) {
            plan.destinations[region] = .spill(spill)
        }
    }
}
