// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import TestSupport
import Testing

@testable import Imaging

/// Plans for a partition with an LVM physical volume.
@Suite struct VolumeGroupPlanTests {
    private static let unit: UInt64 = 128 << 10

    /// Partition 1 (3 MiB) has 16 of 22 extents in use: 10 by an ext4 that needs at least 4, and 6 by swap.
    private func header(obstacle: String? = nil) throws -> ImageHeader {
        var header = try MadeUpDisk(seed: 11, allUsed: true).header
        let index = try #require(header.manifest.regions.firstIndex { $0.partition == 1 })
        func volume(_ kind: FilesystemInfo.Kind, _ count: UInt64, least: UInt64?) -> FilesystemInfo.InnerVolume {
            .init(
                name: "vg/\(kind.rawValue)", byteCount: count * Self.unit,
                filesystem: FilesystemInfo(
                    kind: kind, kindName: kind.rawValue, byteCount: count * Self.unit, blockSize: 4096,
                    mapSource: .allocationStructures, leastByteCount: least.map { $0 * Self.unit }))
        }
        var info = FilesystemInfo(
            kind: .lvm, kindName: "LVM2_member", byteCount: 3 << 20, blockSize: Int(Self.unit),
            mapSource: .allocationStructures, inner: [volume(.ext4, 10, least: 4), volume(.swap, 6, least: nil)],
            volumeGroup: .init(
                name: "vg", id: "id", extentStart: 256 << 10, extentByteCount: Self.unit, extentCount: 22,
                resizeObstacle: obstacle))
        info.leastByteCount = (256 << 10) + 10 * Self.unit
        header.manifest.regions[index].filesystem = info
        return header
    }

    private func plan(
        _ header: ImageHeader, _ wish: UInt64, policy: LayoutPolicy = .grow, obstacle: String? = nil
    ) throws -> RestorePlan {
        try RestorePlanner.plan(
            header, onto: DiskIdentity(path: "target"), geometry: DiskGeometry(byteCount: 32 << 20),
            request: LayoutRequest(policy: policy, wishes: [1: .size(wish)]),
            obstacles: .init(volumeGroup: { _ in obstacle }))
    }

    @Test func volumesGrowWithTheirPartition() throws {
        let grown = try plan(try header(), 5 << 20)
        #expect(grown.growths.first { $0.number == 1 }?.volumeByteCounts == [26 * Self.unit, 6 * Self.unit])
        let item = try #require(grown.items.first { $0.number == 1 })
        #expect(item.action.contains("grow"))
        #expect(item.volumes?.map(\.name) == ["vg/ext4", "vg/swap"])
        #expect(item.volumes?.first?.fromByteCount == 10 * Self.unit)
        #expect(item.volumes?.first?.toByteCount == 26 * Self.unit)
        // With the policy `keep`, the volumes keep their sizes, and the group gets the added extents.
        let kept = try plan(try header(), 5 << 20, policy: .keep)
        #expect(kept.growths.first { $0.number == 1 }?.volumeByteCounts == [10 * Self.unit, 6 * Self.unit])
    }

    @Test func volumesShrinkWithTheirPartition() throws {
        // Fewer extents, but enough for all volumes: extents move, and no volume shrinks.
        let moved = try plan(try header(), 2304 << 10)
        #expect(moved.shrinks.first?.volumeByteCounts == [10 * Self.unit, 6 * Self.unit])
        #expect(moved.shrinks.first?.shrinking == [])
        let shrunk = try plan(try header(), 2 << 20)
        let shrink = try #require(shrunk.shrinks.first)
        #expect(shrink.volumeByteCounts == [8 * Self.unit, 6 * Self.unit])
        #expect(shrink.shrinking.map(\.kind) == [.ext4] && shrink.needsComposite)
        // With all extents in use, the scratch has the length of the part that exceeds the new partition.
        #expect(shrink.scratchByteCount == 1 << 20)
        #expect(shrunk.items.first { $0.number == 1 }?.volumes?.first?.toByteCount == 8 * Self.unit)
        #expect(throws: ImagingError.self) { try plan(try header(), 1 << 20) }
        // If the shrinking volume is known to be at the start, data moved by its tool does not need the scratch.
        for (start, held) in [(0, 0), (12, 4 * Self.unit)] as [(UInt64, UInt64)] {
            var known = try header()
            let index = try #require(known.manifest.regions.firstIndex { $0.partition == 1 })
            let lower = (256 << 10) + start * Self.unit
            known.manifest.regions[index].filesystem?.inner?[0].places = [lower..<lower + 10 * Self.unit]
            known.maps[index] = AllocationMap(byteCount: 3 << 20)
            #expect(try plan(known, 2 << 20).shrinks.first?.scratchByteCount == held)
        }
    }

    @Test func anObstacleIsNamed() throws {
        for refusal in [
            #expect(throws: ImagingError.self) { try plan(try header(), 2 << 20, obstacle: "no lvm here") },
            #expect(throws: ImagingError.self) { try plan(try header(obstacle: "no lvm here"), 2 << 20) },
        ] {
            #expect("\(try #require(refusal))".contains("no lvm here"))
        }
        // In a larger partition, the content keeps its size.
        let larger = try plan(try header(obstacle: "thin"), 5 << 20)
        #expect(larger.growths.isEmpty && larger.items.first { $0.number == 1 }?.volumes == nil)
    }
}
