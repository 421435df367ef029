// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

extension RestorePlanner {
    /// Plans the restore of a disk without a known partition table.
    static func planBare(
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
            destinations: manifest.regions.map { .disk(offset: $0.range.lowerBound) }, placements: nil,
            tableIsUnchanged: true,
            growths: [], shrinks: [], warnings: [])
        for region in manifest.regions {
            var to = region.range
            var actions: [RestorePlan.Action] = [.restore]
            var volumeByteCounts: [UInt64]?
            let isWhole = region.kind == .disk && region.range == 0..<manifest.geometry.byteCount
            // LUKS fills the disk under any policy.
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
                actions.append(.grow)
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
                    from: region.range, to: to, usedByteCount: region.usedByteCount, actions: actions,
                    volumes: volumeSizes(region.filesystem, volumeByteCounts)))
        }
        if manifest.table.kind == .unknown, geometry.byteCount != manifest.geometry.byteCount {
            plan.warnings.append(.foreignTable(kind: manifest.table.unknownKindName))
        }
        return plan
    }
}
