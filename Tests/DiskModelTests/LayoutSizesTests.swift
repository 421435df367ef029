// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Testing

@testable import DiskModel

@Suite struct LayoutSizesTests {
    private func shrinking(_ least: UInt64, grows: Bool = true) -> PartitionAbility {
        PartitionAbility(leastByteCount: least << 20, canGrow: grows, canShrink: true)
    }

    @Test func sharesFollowTheSizes() throws {
        var disk = MadeUpLayout([10, 20, 30], disk: 62)
        for number in [1, 2, 3] { disk.abilities[number] = shrinking(5) }
        // 39 MiB more: 6.5, 13, 19.5 by size; whole boundaries, and the last takes the rest.
        let all = try disk.plan(mebibytes: 101, .proportional)
        #expect(all.ranges == [1: 1..<17, 2: 17..<50, 3: 50..<100])
        disk.abilities[2] = nil
        let two = try disk.plan(mebibytes: 102, .proportional)
        #expect(two.ranges == [1: 1..<21, 2: 21..<41, 3: 41..<101])
        disk.filesystems[1] = FilesystemInfo(
            kind: .ext4, kindName: "ext4", mapSource: .whole, lastMountPoint: "/boot")
        let boot = try disk.plan(mebibytes: 102, .proportional)
        #expect(boot.ranges == [1: 1..<11, 2: 11..<31, 3: 31..<101])
    }

    @Test func theOneThatWouldGrowShrinksFirst() throws {
        var disk = MadeUpLayout([10, 20, 30, 10], disk: 72)
        disk.abilities[1] = shrinking(4)
        disk.abilities[2] = shrinking(8)
        disk.abilities[3] = shrinking(20)
        let little = try disk.plan(mebibytes: 69, .grow)
        #expect(little.ranges == [1: 1..<11, 2: 11..<31, 3: 31..<58, 4: 58..<68])
        // It is at its least, and the others give 6 of their 6 + 12 MiB, by those shares.
        let more = try disk.plan(mebibytes: 56, .proportional)
        #expect(more.ranges == [1: 1..<9, 2: 9..<25, 3: 25..<45, 4: 45..<55])
        let least = try disk.plan(mebibytes: 44, .grow)
        #expect(least.ranges == [1: 1..<5, 2: 5..<13, 3: 13..<33, 4: 33..<43])
        let refusal = disk.refusal(mebibytes: 43, .grow)
        #expect(refusal.contains("at least \(43 << 20 + 33 * 512) bytes"), "\(refusal)")
        #expect(refusal.contains("partition 4 (Linux filesystem, 10 MiB) cannot be made smaller"), "\(refusal)")
        #expect(refusal.contains("partition 3 (Linux filesystem, 30 MiB) needs at least 20 MiB"), "\(refusal)")
    }

    @Test func keepShrinksNothingAndSaysWhatWould() throws {
        var disk = MadeUpLayout([10, 40], disk: 60)
        disk.abilities[2] = shrinking(20)
        disk.filesystems[1] = FilesystemInfo(kind: .xfs, kindName: "xfs", mapSource: .whole)
        disk.abilities[1] = PartitionAbility(leastByteCount: 10 << 20, canGrow: true, reason: "XFS cannot shrink")
        let refusal = disk.refusal(mebibytes: 40, .keep)
        #expect(refusal.contains("partition 1 (xfs, 10 MiB) cannot be made smaller: XFS cannot shrink"), "\(refusal)")
        #expect(
            refusal.contains("with the layouts grow and proportional, \(31 << 20 + 33 * 512) bytes"), "\(refusal)")
        #expect(try disk.plan(mebibytes: 40, .grow).ranges == [1: 1..<11, 2: 11..<39])
        #expect(disk.refusal(mebibytes: 40, .grow, ["2=keep"]).contains("its size was requested to stay"))
    }

    @Test func gapsAreGivenUpBeforeAnythingShrinks() throws {
        var disk = MadeUpLayout([10, 20, 30], disk: 100)
        disk.table.partitions[2].range = 60 << 20..<90 << 20
        disk.abilities[3] = shrinking(5)
        #expect(try disk.plan(mebibytes: 92, .grow).ranges == [1: 1..<11, 2: 11..<31, 3: 60..<90])
        #expect(try disk.plan(mebibytes: 80, .grow).ranges == [1: 1..<11, 2: 11..<31, 3: 31..<61])
        #expect(try disk.plan(mebibytes: 51, .grow).ranges == [1: 1..<11, 2: 11..<31, 3: 31..<50])
    }

    @Test func largerSectorsMoveWhatDoesNotStartOnOne() throws {
        var disk = MadeUpLayout([100, 20], disk: 400)
        disk.table.partitions[0].range = 2049 * 512..<(2049 + 204_801) * 512
        disk.table.partitions[1].range = 150 << 20..<170 << 20
        disk.abilities[1] = PartitionAbility(leastByteCount: 260 << 20, reason: "FAT32 with sectors of 4096 bytes")
        let target = DiskGeometry(byteCount: 400 << 20, logicalSectorSize: 4096)
        let layout = try disk.plan(target, .keep)
        #expect(layout.ranges == [1: 2..<262, 2: 262..<282])
        #expect(layout.remarks.isEmpty)
        disk.abilities = [:]
        let rounded = try disk.plan(target, .keep, unit: 4096)
        #expect(rounded.ranges == [1: 512..<26113, 2: 38400..<43520])
        // Four entries' worth of room at each end: 2 and 1 sectors, and 16 KiB of entries.
        disk.table.partitions = [disk.table.partitions[1]]
        let tight = DiskGeometry(byteCount: 171 << 20, logicalSectorSize: 4096)
        // The gap at the front keeps its size.
        #expect(try disk.plan(tight, .keep).ranges == [2: 150..<170])
        disk.table.partitions[0].range = 24_576..<30 << 20
        let least = DiskGeometry(byteCount: 30 << 20 + 5 * 4096, logicalSectorSize: 4096)
        #expect(try disk.plan(least, .keep, unit: 4096).ranges == [2: 6..<7680])
    }

    @Test func onePartitionGoesIntoAnExistingOne() throws {
        let disk = MadeUpLayout([10, 20, 30], disk: 64)
        let target = MadeUpLayout([30, 25, 10], disk: 70)
        let grows = PartitionAbility(leastByteCount: 12 << 20, canGrow: true, canShrink: true)
        let only = try LayoutPlanner.planOnly(2, of: disk.table, ability: grows, onto: target.table)
        #expect(only.placement.from == 11 << 20..<31 << 20 && only.placement.to == 31 << 20..<56 << 20)
        #expect(only.growsToFill && !only.shrinksToFit && only.remarks.isEmpty)
        let kept = try LayoutPlanner.planOnly(2, of: disk.table, ability: grows, onto: target.table, policy: .keep)
        #expect(!kept.growsToFill && kept.remarks == [.existingIsLarger(partition: 2, byteCount: 5 << 20)])
        let other = try LayoutPlanner.planOnly(
            3, of: disk.table, ability: nil, onto: target.table, existingNumber: 1)
        #expect(other.placement.number == 1 && other.placement.to == 1 << 20..<31 << 20)
        #expect(throws: LayoutError.self) {
            try LayoutPlanner.planOnly(3, of: disk.table, ability: grows, onto: target.table)
        }
        #expect(throws: LayoutError.self) {
            try LayoutPlanner.planOnly(4, of: disk.table, ability: nil, onto: target.table)
        }
        let small = MadeUpLayout([10, 15], disk: 30)
        #expect(throws: LayoutError.self) {
            try LayoutPlanner.planOnly(2, of: disk.table, ability: grows, onto: small.table)
        }
        let shrunk = try LayoutPlanner.planOnly(
            2, of: disk.table, ability: grows, onto: small.table, mayShrink: true)
        #expect(shrunk.shrinksToFit && !shrunk.growsToFill)
    }
}
