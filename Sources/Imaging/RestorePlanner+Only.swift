// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel

extension RestorePlanner {
    /// Plans the restore of one partition of `header` into an existing one of the target. The rest of the target stays
    /// unchanged.
    /// - Parameters:
    ///   - number: the partition of the image.
    ///   - existingNumber: the partition of the target; `nil` for the same number.
    ///   - existing: the target's current table.
    ///   - policy: whether the filesystem grows to fill a larger partition.
    ///   - obstacles: resize operations this machine cannot perform.
    /// - Throws: `ImagingError.refused` with the reason and the way out.
    package static func plan(
        only number: Int, into existingNumber: Int?, of header: ImageHeader, onto target: DiskIdentity,
        geometry: DiskGeometry, existing: PartitionTable, policy: LayoutPolicy,
        obstacles: ResizeObstacles = ResizeObstacles()
    ) throws(ImagingError) -> RestorePlan {
        let manifest = header.manifest
        guard manifest.geometry.logicalSectorSize == geometry.logicalSectorSize else {
            throw .refused(
                "the image has sectors of \(manifest.geometry.logicalSectorSize) bytes and \(target.path) has sectors of "
                    + "\(geometry.logicalSectorSize)")
        }
        guard existing.condition == .intact else {
            throw .refused("one of the two copies of \(target.path)'s partition table is damaged: mend it first")
        }
        guard let index = manifest.regions.firstIndex(where: { $0.partition == number }) else {
            throw .refused("the image has no partition \(number)")
        }
        let region = manifest.regions[index]
        var obstacles = obstacles
        obstacles.shrink = "one partition alone is not made smaller"
        let ability = abilities(
            manifest, header.maps, sectorSize: geometry.logicalSectorSize, obstacles: obstacles)[number]
        let layout: OnlyLayout
        do {
            layout = try LayoutPlanner.planOnly(
                number, of: manifest.table, ability: ability, onto: existing, existingNumber: existingNumber,
                policy: policy)
        } catch { throw .refused("\(error)") }
        let range = layout.placement.to
        guard range.upperBound <= geometry.byteCount, range.byteCount >= region.range.byteCount else {
            throw .refused("partition \(layout.placement.number) of \(target.path) does not lie on the disk")
        }
        if range.byteCount != region.range.byteCount, let obstacle = obstacle(region.filesystem, in: range.byteCount) {
            throw .refused(
                "partition \(layout.placement.number) of \(target.path) has \(range.byteCount) bytes: \(obstacle)")
        }
        var plan = RestorePlan(
            imageUUID: manifest.imageUUID, target: target, geometry: geometry,
            request: LayoutRequest(policy: policy), items: [],
            destinations: manifest.regions.indices.map { $0 == index ? .disk(offset: range.lowerBound) : .skipped },
            placements: [.init(number: number, from: region.range, to: range)],
            only: .init(number: number, existing: layout.placement.number, range: range), tableIsUnchanged: true,
            growths: [], shrinks: [], warnings: layout.remarks.map(RestorePlan.Warning.layout))
        var volumeByteCounts: [UInt64]?
        var actions: [RestorePlan.Action] = [.restoreInto(partition: layout.placement.number)]
        if layout.growsToFill, let filesystem = region.filesystem {
            actions.append(.grow)
            volumeByteCounts = try grownLengths(filesystem, on: range, policy, obstacles)
            plan.growths.append(
                .init(
                    number: number, isLate: true, range: range, filesystem: filesystem,
                    volumeByteCounts: volumeByteCounts))
        }
        let partition = manifest.table.partitions.first { $0.number == number }
        plan.items.append(
            .init(
                number: number, name: partition?.name ?? "", type: partition?.typeName ?? "",
                filesystem: region.filesystem?.kindName ?? "unknown", label: region.filesystem?.label,
                from: region.range, to: range, usedByteCount: region.usedByteCount, actions: actions,
                volumes: volumeSizes(region.filesystem, volumeByteCounts)))
        plan.noteOlderLives(header)
        return plan
    }
}
