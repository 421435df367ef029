// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

/// Plans a restore. Pure.
package enum RestorePlanner {
    /// Plans the restore of `header` onto a target.
    /// - Parameters:
    ///   - obstacles: resize operations this machine cannot perform.
    ///   - mustBoot: whether a disk that cannot boot from the target is refused.
    ///   - trustsUnknown: whether contents that are not known to work with sectors of another size are restored.
    ///   - firmware: the firmware that the disk is to start by; `nil` for the captured one.
    /// - Throws: `ImagingError.refused` with the reason and the way out.
    package static func plan(
        _ header: ImageHeader, onto target: DiskIdentity, geometry: DiskGeometry, request: LayoutRequest,
        obstacles: ResizeObstacles = ResizeObstacles(), mustBoot: Bool = true, trustsUnknown: Bool = false,
        firmware: FirmwareRequest? = nil
    ) throws(ImagingError) -> RestorePlan {
        func plan(_ header: ImageHeader, _ conversion: TableConversion?) throws(ImagingError) -> RestorePlan {
            try self.plan(
                header, onto: target, geometry: geometry, request: request, obstacles: obstacles, mustBoot: mustBoot,
                trustsUnknown: trustsUnknown, conversion)
        }
        guard let firmware else { return try plan(header, nil) }
        let judge = FirmwareJudge(
            manifest: header.manifest, goal: firmware.goal, sectorSize: geometry.logicalSectorSize)
        switch judge.verdict() {
        case .nothing: return try plan(header, nil)
        case .convert:
            return try FirmwarePlanner(header, firmware.goal, geometry, request).plan {
                header, conversion throws(ImagingError) in try plan(header, conversion)
            }
        case .stays(let reason):
            guard !firmware.isRequired else {
                throw .refused(
                    "the disk is not made to start by \(firmware.goal.name): \(reason). --firmware keep restores it as "
                        + "it was captured")
            }
            var plan = try plan(header, nil)
            // A data disk starts by nothing: no firmware matters to it.
            if judge.isMeantToStart { plan.warnings.append(.firmwareStays(firmware.goal, reason: reason)) }
            return plan
        }
    }

    /// - Parameter conversion: the change of the table, if `header` has a converted one.
    private static func plan(
        _ header: ImageHeader, onto target: DiskIdentity, geometry: DiskGeometry, request: LayoutRequest,
        obstacles: ResizeObstacles, mustBoot: Bool, trustsUnknown: Bool, _ conversion: TableConversion?
    ) throws(ImagingError) -> RestorePlan {
        let manifest = header.manifest
        let remarks = try sectorWarnings(
            manifest, target, geometry, request, mustBoot: mustBoot, trustsUnknown: trustsUnknown)
        let isSameSector = manifest.geometry.logicalSectorSize == geometry.logicalSectorSize
        var obstacles = obstacles
        if !isSameSector { obstacles.volumeGroup = { _ in ResizeObstacles.otherSectors } }
        var plan =
            manifest.table.kind == .gpt || manifest.table.kind == .mbr
            ? try TablePlanner.plan(header, target, geometry, request, obstacles, conversion)
            : try planBare(header, target, geometry, request, obstacles)
        plan.warnings += remarks
        plan.noteOlderLives(header)
        if request.policy != .keep, geometry.byteCount > manifest.geometry.byteCount {
            plan.warnings += manifest.regions.compactMap { keptSize($0, obstacles) }
        }
        return plan
    }

    /// The warning that the contents of a container keep their size on a larger disk.
    private static func keptSize(_ region: Manifest.Region, _ obstacles: ResizeObstacles) -> RestorePlan.Warning? {
        guard let filesystem = region.filesystem, filesystem.resizeAbility.canGrow,
            LayoutPlanner.fills(filesystem, region.range)
        else { return nil }
        if filesystem.kind == .luks {
            // Without a key, `leaveLocked` reports it with the command for later.
            if obstacles.encrypted != nil { return nil }
            if let obstacle = EncryptedContents(filesystem)?.growObstacle {
                return .keepsSizeInLUKS(partition: region.partition, reason: obstacle)
            }
        }
        guard let obstacle = filesystem.physicalVolume?.volumeGroup.flatMap(obstacles.volumeGroup) else { return nil }
        return .groupKeepsSize(partition: region.partition, reason: obstacle)
    }

    /// In bytes.
    private static let longestSector: UInt64 = 4096

    /// Whether a filesystem is shorter than its partition, and nothing is behind it: another tool (FOG) made it smaller
    /// before it saved it. A capture counts all bytes behind a filesystem as used.
    static func isShortAndAlone(_ filesystem: FilesystemInfo, _ range: ByteRange, _ map: AllocationMap) -> Bool {
        guard let length = filesystem.byteCount, length > 0, length < range.byteCount,
            !LayoutPlanner.fills(filesystem, range)
        else { return false }
        // NTFS: the copy of its boot sector, behind the length that it states, is its own. `fills` leaves 64 KiB.
        let end = filesystem.kind == .ntfs ? length + longestSector : length
        return map.usedByteCount > 0 && map.ranges(in: end..<range.byteCount).isEmpty
    }

    /// The resize abilities of partitions, by number.
    /// - Parameter sectorSize: the target's sector size, in bytes.
    static func abilities(
        _ manifest: Manifest, _ maps: [AllocationMap], sectorSize: Int, obstacles: ResizeObstacles
    ) -> [Int: PartitionAbility] {
        var abilities: [Int: PartitionAbility] = [:]
        for (region, map) in zip(manifest.regions, maps) {
            guard let number = region.partition, let filesystem = region.filesystem else { continue }
            let length = region.range.byteCount
            var ability = PartitionAbility(leastByteCount: length)
            let resize = filesystem.resizeAbility
            if isShortAndAlone(filesystem, region.range, map) {
                ability.canGrow =
                    resize.canGrow && obstacles.toGrow(filesystem) == nil && filesystem.growsOnSectors(of: sectorSize)
                ability.reason = "its filesystem is shorter than the partition"
            } else if !LayoutPlanner.fills(filesystem, region.range) {
                // Data after its end (a verity tree, an md superblock) must stay there.
                ability.reason =
                    filesystem.byteCount == nil
                    ? resize.shrinkObstacle : "something may stand behind the end of its filesystem"
            } else {
                // LUKS fills a larger place even without its key.
                ability.canGrow =
                    resize.canGrow && (filesystem.kind == .luks || obstacles.toGrow(filesystem) == nil)
                    && filesystem.growsOnSectors(of: sectorSize)
                if let obstacle = resize.shrinkObstacle ?? obstacles.toShrink(filesystem) {
                    ability.reason = obstacle
                } else if filesystem.traits.shrink == .madeAgain {
                    ability.canShrink = true
                    ability.leastByteCount = min(length, LeastSize.swap)
                } else if let least = EncryptedContents(filesystem).map(\.leastByteCount) ?? filesystem.leastByteCount,
                    least < length
                {
                    ability.canShrink = true
                    ability.leastByteCount = least
                    ability.reason = "\(ByteText.rounded(map.usedByteCount)) are in use"
                }
            }
            abilities[number] = ability
        }
        return abilities
    }
}

extension RestorePlan {
    /// Adds the actions against older lives to the items.
    mutating func noteOlderLives(_ header: ImageHeader) {
        for step in olderLifeSteps(header) {
            let number = header.manifest.regions[step.region].partition
            guard let index = items.firstIndex(where: { $0.number == number }) else { continue }
            let action = step.cure == .newerLog ? Action.renewLog : .clearUnused
            if !items[index].actions.contains(action) { items[index].actions.append(action) }
        }
    }
}
