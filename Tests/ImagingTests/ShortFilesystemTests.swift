// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import TestSupport
import Testing

@testable import Imaging

/// Filesystems that do not fill their partitions.
@Suite struct ShortFilesystemTests {
    /// The first partition has an ext4 of half its length.
    private func header(used: [ByteRange], _ kind: FilesystemInfo.Kind = .ext4) throws -> ImageHeader {
        var header = try MadeUpDisk(seed: 1).header
        let index = try #require(header.manifest.regions.firstIndex { $0.partition == 1 })
        let length = header.manifest.regions[index].range.byteCount
        var map = AllocationMap(byteCount: length)
        for range in used { map.insert(range) }
        header.maps[index] = map
        header.manifest.regions[index].usedByteCount = map.usedByteCount
        header.manifest.regions[index].filesystem = FilesystemInfo(
            kind: kind, kindName: kind == .ntfs ? "ntfs" : "ext4", byteCount: length / 2,
            mapSource: .allocationStructures)
        return header
    }

    private func plan(_ header: ImageHeader, _ policy: LayoutPolicy, byteCount: UInt64) throws -> RestorePlan {
        try RestorePlanner.plan(
            header, onto: DiskIdentity(path: "target"), geometry: DiskGeometry(byteCount: byteCount),
            request: LayoutRequest(policy: policy))
    }

    /// What another tool made smaller before it saved it (FOG's resizable images) fills its partition again, on a disk
    /// of any length; it was left small.
    @Test(arguments: [LayoutPolicy.keep, .grow, .proportional]) func whatIsAloneFillsItsPartition(
        _ policy: LayoutPolicy
    ) throws {
        let header = try header(used: [0..<4096])
        for byteCount in [header.manifest.geometry.byteCount, 64 << 20] {
            let plan = try plan(header, policy, byteCount: byteCount)
            #expect(plan.growths.map(\.number) == [1])
            #expect(plan.growths.first?.range == plan.items.first { $0.number == 1 }?.to)
            #expect(plan.items.first { $0.number == 1 }?.actions.contains(.grow) == true)
        }
    }

    /// NTFS keeps a copy of its boot sector behind the length that it states: FOG's images of Windows stayed small.
    @Test func theBackupBootSectorOfNTFSIsItsOwn() throws {
        let half: UInt64 = 3 << 19
        let alone = try header(used: [0..<4096, half..<half + 512], .ntfs)
        #expect(try plan(alone, .keep, byteCount: alone.manifest.geometry.byteCount).growths.map(\.number) == [1])
        let other = try header(used: [0..<4096, half..<half + 512, half + 8192..<half + 8704], .ntfs)
        #expect(try plan(other, .keep, byteCount: other.manifest.geometry.byteCount).growths.isEmpty)
    }

    /// A verity tree or an md superblock behind a filesystem stays where it is.
    @Test func whatHasBytesBehindItKeepsItsSize() throws {
        let half: UInt64 = 3 << 19
        let header = try header(used: [0..<4096, half..<half + 512])
        #expect(header.manifest.regions.contains { $0.filesystem?.byteCount == half })
        for byteCount in [header.manifest.geometry.byteCount, 64 << 20] {
            #expect(try plan(header, .grow, byteCount: byteCount).growths.isEmpty)
        }
    }
}
