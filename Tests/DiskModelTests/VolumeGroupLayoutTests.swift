// SPDX-License-Identifier: GPL-3.0-or-later
import TestSupport
import Testing

@testable import DiskModel

/// The lengths of logical volumes on a resized physical volume.
@Suite struct VolumeGroupLayoutTests {
    static let unit: UInt64 = 4 << 20

    /// A physical volume with volumes of that many extents: (kind, extents, least extents).
    static func group(
        _ volumes: [(FilesystemInfo.Kind, UInt64, UInt64)], free: UInt64 = 0, tail: UInt64 = 0
    ) -> FilesystemInfo {
        let inner = volumes.enumerated().map { index, volume in
            FilesystemInfo.InnerVolume(
                name: "vg/lv\(index)", byteCount: volume.1 * unit,
                filesystem: FilesystemInfo(
                    kind: volume.0, kindName: volume.0.rawValue, byteCount: volume.1 * unit, blockSize: 4096,
                    mapSource: .allocationStructures, leastByteCount: volume.2 * unit - 4096))
        }
        let count = volumes.reduce(free) { $0 + $1.1 }
        return FilesystemInfo(
            kind: .lvm, kindName: "LVM2_member", byteCount: count * unit + tail + (1 << 20), blockSize: Int(unit),
            mapSource: .allocationStructures, inner: inner,
            volumeGroup: .init(
                name: "vg", id: "id", extentStart: 1 << 20, extentByteCount: unit, extentCount: count,
                tailByteCount: tail))
    }

    /// The lengths in extents.
    static func counts(
        _ info: FilesystemInfo, on extents: UInt64, _ policy: LayoutPolicy = .grow
    ) throws -> [UInt64]? {
        let tail = info.volumeGroup?.tailByteCount ?? 0
        let layout = try #require(VolumeGroupLayout(info))
        return layout.byteCounts(on: extents * unit + tail + (1 << 20), policy: policy)?.map { $0 / unit }
    }

    @Test func theLargestThatCanGrowTakesWhatIsAdded() throws {
        let info = Self.group(
            [(.ext4, 20, 5), (.xfs, 30, 30), (.fat32, 90, 90), (.swap, 50, 50), (.ext4, 10, 5)], free: 7)
        #expect(try Self.counts(info, on: 307) == [20, 130, 90, 50, 10])
        #expect(try Self.counts(info, on: 307, .keep) == [20, 30, 90, 50, 10])
        // Shares of 33, 50 and 16; the largest gets the rounding remainder.
        #expect(try Self.counts(info, on: 307, .proportional) == [53, 81, 90, 50, 26])
        // Of two equal ones, the last.
        #expect(try Self.counts(Self.group([(.ext4, 9, 1), (.ext4, 9, 1)]), on: 20) == [9, 11])
        // No volume can grow: the added extents stay free.
        #expect(try Self.counts(Self.group([(.swap, 9, 1), (.unknown, 9, 1)]), on: 30) == [9, 9])
    }

    @Test func freeExtentsGoFirstThenTheLargest() throws {
        let info = Self.group(
            [(.ext4, 20, 5), (.xfs, 30, 30), (.ext4, 40, 12), (.swap, 10, 1), (.ext4, 30, 20)], free: 7)
        #expect(try Self.counts(info, on: 130) == [20, 30, 40, 10, 30])
        #expect(try Self.counts(info, on: 120) == [20, 30, 30, 10, 30])
        // 28 of the largest, then the others, 12 of their 15 and 10.
        #expect(try Self.counts(info, on: 90) == [12, 30, 12, 10, 26])
        #expect(try Self.counts(info, on: 77) == [5, 30, 12, 10, 20])
        #expect(try Self.counts(info, on: 76) == nil)
        #expect(VolumeGroupLayout(info)?.leastByteCount == 77 * Self.unit + (1 << 20))
    }

    /// A filesystem that ends well before its volume may have data behind it.
    @Test func whatDoesNotFillItsVolumeKeepsIt() throws {
        var info = Self.group([(.ext4, 20, 5), (.ext4, 10, 5)])
        info.inner?[0].filesystem.byteCount = 10 * Self.unit
        #expect(try Self.counts(info, on: 40) == [20, 20])
        #expect(try Self.counts(info, on: 25) == [20, 5])
        #expect(try Self.counts(info, on: 24) == nil)
    }

    /// Random groups: no extent is lost or doubled, no volume falls below its least, the least length of the group
    /// suffices, and one byte less is refused.
    @Test func randomGroups() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let kinds: [FilesystemInfo.Kind] = [.ext4, .xfs, .swap, .btrfs, .ntfs, .fat32, .unknown]
        for round in 0..<2000 {
            let comment: Comment = "seed \(seed), round \(round)"
            let volumes = (0..<Int.random(in: 1...9, using: &random)).map { _ in
                let count = UInt64.random(in: 1...(1 << UInt64.random(in: 1...20, using: &random)), using: &random)
                return (
                    kinds[Int.random(in: 0..<kinds.count, using: &random)], count,
                    UInt64.random(in: 1...count, using: &random)
                )
            }
            let free = UInt64.random(in: 0...50, using: &random)
            let info = Self.group(volumes, free: free, tail: UInt64.random(in: 0...3, using: &random) << 20)
            let layout = try #require(VolumeGroupLayout(info), comment)
            let group = try #require(info.volumeGroup)
            let least = try #require(layout.leastByteCount, comment)
            let own = try #require(info.byteCount)
            #expect(least <= max(own, 4 << 20), comment)
            let longest = own * 3
            let lengths = [least, own, own + Self.unit, UInt64.random(in: least...longest, using: &random)]
            for policy in LayoutPolicy.allCases {
                for length in lengths {
                    let counts = try #require(layout.byteCounts(on: length, policy: policy), comment)
                        .map { $0 / Self.unit }
                    let total = counts.reduce(0, +)
                    #expect(total <= group.extentCount(in: length), comment)
                    for (count, volume) in zip(counts, layout.volumes) {
                        #expect(count >= volume.least && (count <= volume.count || volume.canGrow), comment)
                    }
                    let before = volumes.reduce(0) { $0 + $1.1 }
                    let room = group.extentCount(in: length)
                    if room < before { #expect(total == room, comment) }
                    if room >= before, room <= group.extentCount { #expect(total == before, comment) }
                    if room > group.extentCount, policy != .keep, layout.volumes.contains(where: \.canGrow) {
                        #expect(room - total == free, comment)
                    }
                }
            }
            if least > 4 << 20 { #expect(layout.byteCounts(on: least - 1, policy: .grow) == nil, comment) }
        }
    }

    /// The claims of a manifest are verified.
    @Test func nonsenseIsNoGroup() {
        var info = Self.group([(.ext4, 20, 5)])
        info.volumeGroup?.extentByteCount = 0
        #expect(VolumeGroupLayout(info) == nil && info.resizeAbility.canGrow)
        info = Self.group([(.ext4, 20, 5)])
        info.volumeGroup?.extentCount = .max
        #expect(VolumeGroupLayout(info) == nil)
        info = Self.group([(.ext4, 20, 5), (.ext4, 20, 5)])
        info.volumeGroup?.extentCount = 39
        #expect(VolumeGroupLayout(info) == nil)
        info.volumeGroup?.extentCount = 40
        info.volumeGroup?.extentStart = .max - 5
        #expect(VolumeGroupLayout(info) == nil)
        info = Self.group([(.ext4, 20, 5)])
        info.inner?[0].byteCount = 5
        #expect(VolumeGroupLayout(info) == nil)
        info = Self.group([(.ext4, 20, 5)])
        info.volumeGroup?.tailByteCount = .max
        #expect(VolumeGroupLayout(info) == nil)
        info = Self.group([(.ext4, 20, 5)])
        info.volumeGroup?.resizeObstacle = "it is striped"
        #expect(VolumeGroupLayout(info) == nil && info.resizeAbility.shrinkObstacle == "it is striped")
        // An image of an earlier version.
        info.volumeGroup = nil
        #expect(VolumeGroupLayout(info) == nil && !info.resizeAbility.canGrow)
    }
}
