// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskEditing
import DiskModel
import ImageModel

/// What a restore will do to a target: a value that can be shown before anything is written.
package struct RestorePlan: Codable, Equatable, Sendable {
    /// One partition (or the volume of a disk without a table).
    package struct Item: Codable, Equatable, Sendable {
        /// Its number; `nil` for a disk without a table.
        package var number: Int?
        /// Its name in the table.
        package var name: String
        /// What it is for.
        package var type: String
        /// What it holds.
        package var filesystem: String
        /// The filesystem's label.
        package var label: String?
        /// Where it was, in bytes.
        package var from: ByteRange
        /// Where it goes, in bytes.
        package var to: ByteRange
        /// The bytes that are written.
        package var usedByteCount: UInt64
        /// What happens, for a person.
        package var action: String
        /// The logical volumes of a physical volume that gets another size; `nil` of everything else.
        package var volumes: [Volume]?
    }

    /// One logical volume of a physical volume that gets another size.
    package struct Volume: Codable, Equatable, Sendable {
        /// Its name: `group/volume`.
        package var name: String
        /// What it holds.
        package var filesystem: String
        /// Its length as captured, in bytes.
        package var fromByteCount: UInt64
        /// The length that it gets, in bytes.
        package var toByteCount: UInt64
    }

    /// The image's UUID.
    package var imageUUID: GUID
    /// The target.
    package var target: DiskIdentity
    /// Its size and units.
    package var geometry: DiskGeometry
    /// How sizes follow the target, and what was wished of single partitions.
    package var request: LayoutRequest
    /// The partitions.
    package var items: [Item]
    /// For each region of the image, where its first byte goes; `nil` where it is not restored.
    package var regionTargets: [UInt64?]
    /// The table to write; `nil` for a disk without one that is understood.
    package var placements: [DiskLayout.Placement]?
    /// The one partition of the target that is written; `nil` where all of the disk is.
    package var only: Only?
    /// Whether the table is the captured one to the bit.
    package var tableIsUnchanged: Bool
    /// The filesystems to grow: where each will lie.
    package var growths: [Growth]
    /// The filesystems to make smaller, before the commit.
    package var shrinks: [Shrink]
    /// The FATs to make anew, with sectors of the target's size, before the commit.
    package var remakes: [Remake] = []
    /// What a person should know.
    package var warnings: [String]

    /// A partition that is restored into an existing one.
    package struct Only: Codable, Equatable, Sendable {
        /// Its number in the image.
        package var number: Int
        /// The number of the existing partition.
        package var existing: Int
        /// Where the existing partition lies, in bytes.
        package var range: ByteRange
    }

    /// A filesystem to grow.
    package struct Growth: Codable, Equatable, Sendable {
        /// The partition; `nil` for a filesystem on the bare disk.
        package var number: Int?
        /// Whether it grows after the commit: its own front is written last.
        package var isLate: Bool
        /// Where it will lie, in bytes.
        package var range: ByteRange
        /// What it is.
        package var filesystem: FilesystemInfo
        /// Of a physical volume of LVM, itself or inside of LUKS: the lengths that its volumes get, in the order of
        /// `filesystem.physicalVolume.inner`, in bytes.
        package var volumeByteCounts: [UInt64]?
    }

    /// A filesystem to make smaller: its front goes to its place, the rest to a scratch, and its own tool makes it fit.
    package struct Shrink: Codable, Equatable, Sendable {
        /// The partition.
        package var number: Int
        /// Where it will lie, in bytes.
        package var range: ByteRange
        /// The length of the partition that it comes from, in bytes.
        package var fromByteCount: UInt64
        /// How much of it is in use behind its place: the scratch has to hold that, in bytes.
        package var scratchByteCount: UInt64
        /// What it is.
        package var filesystem: FilesystemInfo
        /// Of a physical volume of LVM, itself or inside of LUKS: the lengths that its volumes get, in the order of
        /// `filesystem.physicalVolume.inner`, in bytes.
        package var volumeByteCounts: [UInt64]?

        /// The filesystems whose own tools have to make them smaller.
        package var shrinking: [FilesystemInfo] {
            guard let volumeByteCounts else { return [EncryptedContents(filesystem)?.inner ?? filesystem] }
            let volumes = filesystem.physicalVolume?.inner ?? []
            return zip(volumes, volumeByteCounts).filter { $1 < $0.byteCount }.map(\.0.filesystem)
        }

        /// Whether its tool needs to see all of it; swap is only made anew.
        package var needsComposite: Bool { filesystem.traits.shrink != .madeAgain }
    }

    /// A FAT to make anew: all of the captured one goes to a scratch, and its files from there into a new one.
    package struct Remake: Codable, Equatable, Sendable {
        /// The partition.
        package var number: Int
        /// Where it will lie, in bytes.
        package var range: ByteRange
        /// The length of the partition that it comes from, in bytes.
        package var fromByteCount: UInt64
        /// How much of it is in use: the scratch has to hold that, in bytes.
        package var scratchByteCount: UInt64
        /// What it was.
        package var filesystem: FilesystemInfo
    }

    /// The room that the scratch needs, in bytes.
    package var scratchByteCount: UInt64 {
        shrinks.reduce(0) { $0 + $1.scratchByteCount } + remakes.reduce(0) { $0 + $1.scratchByteCount }
    }

    /// What tells this plan from another: a journal of one is not followed by another. The same disk may have another
    /// name after a restart or in another port.
    func digest() throws -> ContentHash {
        var plan = self
        plan.target.path = ""
        plan.target.kernelName = nil
        plan.target.diskSequence = nil
        plan.target.pathByPlace = nil
        plan.warnings = []
        return ContentHash(of: try JSONText.encode(plan))
    }
}

extension RestorePlan {
    /// Says of the items what is done about older lives of their places.
    mutating func noteOlderLives(_ header: ImageHeader) {
        for step in OlderLifeStep.steps(header, isRestored: { regionTargets[$0] != nil }) {
            let number = header.manifest.regions[step.region].partition
            guard let index = items.firstIndex(where: { $0.number == number }) else { continue }
            let word = step.cure == .newerLog ? ", new log" : ", clear what is unused"
            if !items[index].action.contains(word) { items[index].action += word }
        }
    }
}

/// Decides what a restore does. Pure.
package enum RestorePlanner {
    /// A plan for restoring `header` onto a target.
    /// - Parameters:
    ///   - obstacles: what of resizing cannot be done here.
    ///   - mustBoot: whether a disk that will not start from the target is refused.
    ///   - trustsUnknown: whether contents that nobody knows to work with sectors of another size are restored all the same.
    /// - Throws: `ImagingError.refused` with the reason and the way out.
    package static func plan(
        _ header: ImageHeader, onto target: DiskIdentity, geometry: DiskGeometry, request: LayoutRequest,
        obstacles: ResizeObstacles = ResizeObstacles(), mustBoot: Bool = true, trustsUnknown: Bool = false
    ) throws(ImagingError) -> RestorePlan {
        let manifest = header.manifest
        let remarks = try sectorRemarks(
            manifest, target, geometry, request, mustBoot: mustBoot, trustsUnknown: trustsUnknown)
        let isSameSector = manifest.geometry.logicalSectorSize == geometry.logicalSectorSize
        var obstacles = obstacles
        if !isSameSector { obstacles.volumeGroup = { _ in ResizeObstacles.otherSectors } }
        var plan =
            manifest.table.kind == .gpt || manifest.table.kind == .mbr
            ? try planTable(header, target, geometry, request, obstacles)
            : try planBare(header, target, geometry, request, obstacles)
        plan.warnings += remarks
        plan.noteOlderLives(header)
        if request.policy != .keep, geometry.byteCount > manifest.geometry.byteCount {
            plan.warnings += manifest.regions.compactMap { keptSize($0, obstacles) }
        }
        return plan
    }

    /// That what is inside of a container keeps its size on a larger disk, and why.
    private static func keptSize(_ region: Manifest.Region, _ obstacles: ResizeObstacles) -> String? {
        guard let filesystem = region.filesystem, filesystem.resizeAbility.canGrow,
            LayoutPlanner.fills(filesystem, region.range)
        else { return nil }
        let name = region.partition.map { "partition \($0)" } ?? "the disk"
        if filesystem.kind == .luks {
            // Without its key it is said elsewhere, with what is to be done later.
            if obstacles.encrypted != nil { return nil }
            if let obstacle = EncryptedContents(filesystem)?.growObstacle {
                return "\(name): what is inside of LUKS keeps its size: \(obstacle)"
            }
        }
        guard let obstacle = filesystem.physicalVolume?.volumeGroup.flatMap(obstacles.volumeGroup) else { return nil }
        return "\(name): its volume group keeps its size: \(obstacle)"
    }

    /// What the contents of partitions allow, by number.
    /// - Parameter sectorSize: the target's, in bytes.
    static func abilities(
        _ manifest: Manifest, _ maps: [AllocationMap], sectorSize: Int, obstacles: ResizeObstacles
    ) -> [Int: PartitionAbility] {
        var abilities: [Int: PartitionAbility] = [:]
        for (region, map) in zip(manifest.regions, maps) {
            guard let number = region.partition, let filesystem = region.filesystem else { continue }
            let length = region.range.byteCount
            var ability = PartitionAbility(leastByteCount: length)
            let resize = filesystem.resizeAbility
            if !LayoutPlanner.fills(filesystem, region.range) {
                // What stands behind its end (a verity tree, an md superblock) must stay there.
                ability.reason =
                    filesystem.byteCount == nil
                    ? resize.shrinkObstacle : "something may stand behind the end of its filesystem"
            } else {
                // LUKS fills a larger place whoever has its key.
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

    private static func planTable(
        _ header: ImageHeader, _ target: DiskIdentity, _ geometry: DiskGeometry, _ request: LayoutRequest,
        _ obstacles: ResizeObstacles
    ) throws(ImagingError) -> RestorePlan {
        let manifest = header.manifest
        let abilities = abilities(
            manifest, header.maps, sectorSize: geometry.logicalSectorSize, obstacles: obstacles)
        let layout: DiskLayout
        do { layout = try self.layout(header, geometry, request, abilities) } catch { throw .refused("\(error)") }
        let byNumber = Dictionary(layout.placements.map { ($0.number, $0) }, uniquingKeysWith: { first, _ in first })
        // An MBR knows nothing of the disk's end.
        let isSameSize = geometry.byteCount == manifest.geometry.byteCount
        let isUnchanged =
            manifest.geometry.logicalSectorSize == geometry.logicalSectorSize
            && (isSameSize || manifest.table.kind == .mbr) && manifest.table.condition == .intact
            && layout.placements.count == manifest.table.partitions.count
            && layout.placements.allSatisfy { $0.from == $0.to }
        let volumes = Set(manifest.table.partitions.filter(\.isVolume).map(\.number))
        let backupByteCount = manifest.table.backupByteCount(
            on: manifest.geometry, forSectorsOf: geometry.logicalSectorSize)
        var plan = RestorePlan(
            imageUUID: manifest.imageUUID, target: target, geometry: geometry, request: request, items: [],
            regionTargets: [],
            placements: layout.placements, tableIsUnchanged: isUnchanged, growths: [], shrinks: [],
            warnings: layout.remarks)
        var overhangEnd = TargetWriter.overhangBase
        var remadeRegions: [Int] = []
        for (region, map) in zip(manifest.regions, header.maps) {
            if let number = region.partition, byNumber[number] == nil {
                plan.regionTargets.append(nil)
                plan.warnings.append("partition \(number) is left out, as asked for")
                continue
            }
            guard let number = region.partition, let placement = byNumber[number],
                let partition = manifest.table.partitions.first(where: { $0.number == number })
            else {
                // A gap goes back to its place, unless a partition lies there now, or the backup table will. The one at the
                // end holds the old backup table: it has no business in the middle of a larger disk.
                let isEnd = region.range.upperBound == manifest.geometry.byteCount
                let isFree =
                    region.range.upperBound <= geometry.byteCount - min(backupByteCount, geometry.byteCount)
                    && !layout.placements.contains { volumes.contains($0.number) && $0.to.overlaps(region.range) }
                let isRestored = isEnd ? isUnchanged && isSameSize : isFree || isUnchanged && isSameSize
                plan.regionTargets.append(isRestored ? region.range.lowerBound : nil)
                // Nor is anybody missing what stood around the boot records inside an extended partition.
                let isInside = manifest.table.partitions.contains { !$0.isVolume && $0.range.covers(region.range) }
                if !isRestored, region.usedByteCount > 0, !isEnd, !isInside {
                    plan.warnings.append(
                        "\(ByteText.rounded(region.range.byteCount)) between partitions, from byte "
                            + "\(region.range.lowerBound) on, are not restored: a partition lies there now")
                }
                continue
            }
            var action = "restore"
            var volumeByteCounts: [UInt64]?
            if placement.isMoved { action += ", move" }
            if let filesystem = region.filesystem, isRemade(filesystem, manifest, geometry) {
                action += ", make anew"
                remadeRegions.append(plan.regionTargets.count)
                plan.regionTargets.append(nil)
                plan.remakes.append(
                    .init(
                        number: number, range: placement.to, fromByteCount: region.range.byteCount,
                        scratchByteCount: region.usedByteCount, filesystem: filesystem))
            } else if placement.isShrunk {
                guard let filesystem = region.filesystem else {
                    throw .failed("partition \(number) was to be made smaller, and nothing is known of what it holds")
                }
                action += ", shrink"
                let length = placement.to.byteCount
                volumeByteCounts = try volumeLengths(filesystem, on: placement.to, request.policy)
                let behind = map.ranges(in: length..<map.byteCount).reduce(0) { $0 + $1.byteCount }
                plan.regionTargets.append(overhangEnd)
                overhangEnd += region.range.byteCount
                plan.shrinks.append(
                    .init(
                        number: number, range: placement.to, fromByteCount: region.range.byteCount,
                        scratchByteCount: scratchLength(
                            filesystem, volumeByteCounts, in: length, behind: behind,
                            most: region.range.byteCount - length),
                        filesystem: filesystem, volumeByteCounts: volumeByteCounts))
            } else {
                plan.regionTargets.append(placement.to.lowerBound)
            }
            // A length that was only rounded up to the target's sectors is nothing to grow for.
            let whole = placement.from.byteCount.roundedUp(toMultipleOf: UInt64(geometry.logicalSectorSize)) ?? .max
            if placement.to.byteCount > whole, let filesystem = region.filesystem, abilities[number]?.canGrow == true {
                action += ", grow"
                volumeByteCounts = try grownLengths(filesystem, on: placement.to, request.policy, obstacles)
                plan.growths.append(
                    .init(
                        number: number, isLate: false, range: placement.to, filesystem: filesystem,
                        volumeByteCounts: volumeByteCounts))
            }
            if region.usedByteCount == 0 { action = placement.isMoved ? "move (nothing in use)" : "nothing in use" }
            plan.items.append(
                .init(
                    number: number, name: partition.name, type: partition.typeName,
                    filesystem: region.filesystem?.kindName ?? "unknown", label: region.filesystem?.label,
                    from: placement.from, to: placement.to, usedByteCount: region.usedByteCount, action: action,
                    volumes: volumeSizes(region.filesystem, volumeByteCounts)))
        }
        // Behind those of the shrinks, as `RestorePlan.overhangs` has them.
        for (index, remake) in zip(remadeRegions, plan.remakes) {
            plan.regionTargets[index] = overhangEnd
            overhangEnd += remake.fromByteCount
        }
        return plan
    }

    private static func planBare(
        _ header: ImageHeader, _ target: DiskIdentity, _ geometry: DiskGeometry, _ request: LayoutRequest,
        _ obstacles: ResizeObstacles
    ) throws(ImagingError) -> RestorePlan {
        let manifest = header.manifest
        guard request.wishes.isEmpty else {
            throw .refused(
                "the image has no partition table that is understood: nothing can be wished of single partitions (--partition)"
            )
        }
        guard geometry.byteCount >= manifest.geometry.byteCount else {
            throw .refused(
                "\(LayoutError.tooSmall(.init(leastByteCount: manifest.geometry.byteCount, targetByteCount: geometry.byteCount)))"
            )
        }
        var plan = RestorePlan(
            imageUUID: manifest.imageUUID, target: target, geometry: geometry, request: request, items: [],
            regionTargets: manifest.regions.map(\.range.lowerBound), placements: nil, tableIsUnchanged: true,
            growths: [], shrinks: [], warnings: [])
        for region in manifest.regions {
            var to = region.range
            var action = "restore"
            var volumeByteCounts: [UInt64]?
            let isWhole = region.kind == .disk && region.range == 0..<manifest.geometry.byteCount
            // It fills the disk whatever the policy.
            if isWhole, manifest.table.kind == .none, geometry.byteCount > manifest.geometry.byteCount,
                region.filesystem?.byteCount != nil, let obstacle = obstacle(region.filesystem, in: geometry.byteCount)
            {
                throw .refused("\(target.path) has \(geometry.byteCount) bytes: \(obstacle)")
            }
            if isWhole, manifest.table.kind == .none, request.policy != .keep, let filesystem = region.filesystem,
                filesystem.resizeAbility.canGrow, LayoutPlanner.fills(filesystem, region.range),
                filesystem.kind == .luks || obstacles.toGrow(filesystem) == nil,
                filesystem.growsOnSectors(of: geometry.logicalSectorSize),
                geometry.byteCount > manifest.geometry.byteCount
            {
                to = 0..<geometry.byteCount - geometry.byteCount % UInt64(geometry.logicalSectorSize)
                action += ", grow"
                volumeByteCounts = try grownLengths(filesystem, on: to, request.policy, obstacles)
                plan.growths.append(
                    .init(
                        number: nil, isLate: true, range: to, filesystem: filesystem,
                        volumeByteCounts: volumeByteCounts))
            }
            plan.items.append(
                .init(
                    number: nil, name: "whole disk",
                    type: manifest.table.kind == .unknown
                        ? manifest.table.unknownKindName ?? "unknown table" : "no table",
                    filesystem: region.filesystem?.kindName ?? "unknown", label: region.filesystem?.label,
                    from: region.range, to: to, usedByteCount: region.usedByteCount, action: action,
                    volumes: volumeSizes(region.filesystem, volumeByteCounts)))
        }
        if manifest.table.kind == .unknown, geometry.byteCount != manifest.geometry.byteCount {
            plan.warnings.append(
                "the partition table (\(manifest.table.unknownKindName ?? "unknown")) goes back as it was; it does not use "
                    + "what the target has more")
        }
        return plan
    }
}
