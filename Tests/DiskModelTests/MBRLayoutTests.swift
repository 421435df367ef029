// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Testing

@testable import DiskModel

/// Layouts of an MBR, in sectors of 512 bytes.
@Suite struct MBRLayoutTests {
    private func target(_ sectors: UInt64) -> DiskGeometry { DiskGeometry(byteCount: sectors * 512) }
    private let grows = PartitionAbility(leastByteCount: 512, canGrow: true, canShrink: true)

    /// An old disk with a layout in tracks of 63 sectors: a primary, an extended one with two logical ones, a primary.
    private func oldDisk() -> MadeUpLayout {
        MadeUpLayout(
            mbr: [
                (1, .primary, 63, 200_000), (2, .extended, 202_356, 300_000), (5, .logical, 202_419, 100_000),
                (6, .logical, 320_000, 150_000), (3, .primary, 510_000, 90_000),
            ], sectors: 600_063)
    }

    private func oldDisk(growing numbers: Int...) -> MadeUpLayout {
        var disk = oldDisk()
        for number in numbers { disk.abilities[number] = grows }
        return disk
    }

    @Test func nothingMovesForNothing() throws {
        let disk = oldDisk()
        let captured = Dictionary(
            uniqueKeysWithValues: disk.table.partitions.map {
                ($0.number, $0.range.lowerBound / 512..<$0.range.upperBound / 512)
            })
        for sectors in [600_000, 600_063, 700_000, 9_000_000] as [UInt64] {
            #expect(try disk.plan(target(sectors), .keep, unit: 512).ranges == captured)
        }
        // The first partition starts in the first MiB, where it cannot grow: without room to leave it, it stays.
        for sectors in [600_000, 600_063] as [UInt64] {
            #expect(try oldDisk(growing: 1).plan(target(sectors), .grow, unit: 512).ranges == captured)
        }
    }

    /// A disk with a layout in tracks, as all were before 2007: its one partition starts in sector 63, and should grow.
    @Test(arguments: [LayoutPolicy.grow, .proportional]) func whatStartsInTheFirstMebibyteGrows(policy: LayoutPolicy)
        throws
    {
        var disk = MadeUpLayout(mbr: [(1, .primary, 63, 204_737)], sectors: 204_800)
        disk.abilities[1] = grows
        let grown = try disk.plan(target(1_000_000), policy, unit: 512)
        #expect(grown.ranges == [1: 2048..<999_424] && grown.remarks.isEmpty, "\(grown.remarks)")
        // The gain is less than the cost of leaving it: then it stays.
        #expect(try disk.plan(target(206_000), policy, unit: 512).ranges == [1: 63..<204_800])
        // With another one behind it that can grow, that one grows, and this one only where all do.
        let two = try oldDisk(growing: 1, 6).plan(target(1_000_000), policy, unit: 512).ranges
        #expect(try #require(two[6]).count > 150_000)
        #expect(policy == .grow ? two[1] == 63..<200_063 : try #require(two[1]).count > 200_000)
        // Partitions behind it move up.
        let first = try oldDisk(growing: 1).plan(target(1_000_000), .grow, unit: 512).ranges
        #expect(first[1] == 2048..<655_360 && first[3] == 909_312..<999_312)
    }

    /// The note describes the layout's decision, and does not claim that no other one is possible.
    @Test func theNoteSaysWhatThePolicyDecided() throws {
        var disk = MadeUpLayout(mbr: [(1, .primary, 2048, 200_000)], sectors: 204_800)
        let free: UInt64 = (1_000_000 - 204_800) * 512
        let none = try disk.plan(target(1_000_000), .grow, unit: 512).remarks
        #expect(none == [.nothingCanGrow(.grow, freeByteCount: free)])
        disk.abilities[1] = grows
        disk.filesystems[1] = FilesystemInfo(
            kind: .ext4, kindName: "ext4", mapSource: .allocationStructures, lastMountPoint: "/boot")
        let special = try disk.plan(target(1_000_000), .grow, unit: 512).remarks
        #expect(special == [.nothingGrows(.grow, freeByteCount: free, partition: 1, holding: "ext4")])
    }

    /// Starts and lengths have 32 bits, ends more: such a table is restored unchanged, and new
    /// layouts stay within 2 TiB.
    @Test func anExtendedPartitionBehindTheReachStays() throws {
        var disk = MadeUpLayout(
            mbr: [
                (1, .primary, 2048, 100_000), (2, .extended, 1_000_000_000, 4_000_000_000),
                (5, .logical, 1_000_002_048, 300_000),
            ],
            sectors: 5_100_000_000)
        for policy in [.grow, .keep, .proportional] as [LayoutPolicy] {
            let ranges = try disk.plan(target(5_100_000_000), policy, unit: 512).ranges
            #expect(ranges[2] == 1_000_000_000..<5_000_000_000 && ranges[5] == 1_000_002_048..<1_000_302_048)
        }
        let smaller = try disk.plan(target(4_900_000_000), .grow, unit: 512).ranges
        #expect(smaller[2] == 1_000_000_000..<UInt64(UInt32.max) && smaller[5] == 1_000_002_048..<1_000_302_048)
        disk.abilities[5] = grows
        let larger = try disk.plan(target(5_200_000_000), .grow, unit: 512).ranges
        #expect(try #require(larger[2]).upperBound <= UInt64(UInt32.max))
        #expect(try #require(larger[5]).upperBound > 4_000_000_000)
    }

    @Test func theExtendedPartitionGrowsWithTheLogicalOne() throws {
        let last = try oldDisk(growing: 6).plan(target(1_000_000), .grow, unit: 512).ranges
        // The primary behind it moves to the end: the last whole MiB that leaves its 90,000 sectors.
        #expect(last[3] == 909_312..<999_312)
        #expect(last[6] == 320_000..<909_312 && last[2] == 202_356..<909_312)
        #expect(last[1] == 63..<200_063 && last[5] == 202_419..<302_419)
        // The logical one behind it keeps room for its EBR: a whole MiB, because it moves.
        let first = try oldDisk(growing: 5).plan(target(1_000_000), .grow, unit: 512).ranges
        #expect(first[3] == 909_312..<999_312)
        #expect(first[6] == 757_760..<907_760 && first[5] == 202_419..<755_712)
        #expect(first[2] == 202_356..<907_760)
    }

    @Test func aPrimaryInFrontMovesTheWholeExtendedOne() throws {
        var disk = oldDisk(growing: 1)
        disk.table.partitions[0].range = 2048 * 512..<200_063 * 512
        let ranges = try disk.plan(target(1_000_000), .grow, unit: 512).ranges
        #expect(ranges[3] == 909_312..<999_312)
        #expect(ranges[6] == 757_760..<907_760)
        #expect(ranges[5] == 657_408..<757_408)
        #expect(ranges[2] == 655_360..<907_760 && ranges[1] == 2048..<655_360)
    }

    @Test func withoutLogicalOnesThereIsNoExtendedOne() throws {
        let one = try oldDisk().plan(target(600_063), .keep, ["6=drop"], unit: 512)
        #expect(one.ranges[2] == 202_356..<502_356 && one.ranges[5] == 202_419..<302_419)
        // Without the first of them, the second would be 5, and every reference to it by number would be wrong.
        let renumbering = oldDisk().refusal(mebibytes: 400, .keep, ["5=drop"])
        #expect(renumbering.contains("partition 5 cannot be dropped"), "\(renumbering)")
        let none = try oldDisk().plan(target(600_063), .keep, ["5=drop", "6=drop"], unit: 512)
        #expect(none.ranges.keys.sorted() == [1, 3])
        let refusal = oldDisk().refusal(mebibytes: 400, .keep, ["2=drop"])
        #expect(refusal.contains("partition 2 is the extended partition"), "\(refusal)")
    }

    @Test func aSmallerTargetPacksAndShrinks() throws {
        var disk = oldDisk(growing: 1)
        disk.abilities[6] = grows
        // The gaps suffice: nothing shrinks, and the first partitions stay.
        let packed = try disk.plan(target(595_000), .grow, unit: 512).ranges
        #expect(packed[1] == 63..<200_063 && packed[5] == 202_419..<302_419 && packed[6] == 320_000..<470_000)
        #expect(packed[3] == 471_040..<561_040 && packed[2] == 202_356..<471_040)
        let shrunk = try disk.plan(target(450_000), .grow, unit: 512).ranges
        // The first one could shrink, so it leaves the first MiB; the last one that grows gives all.
        #expect(shrunk[1] == 2048..<202_048)
        #expect(shrunk[5] == 202_419..<302_419 && shrunk[3] == 358_400..<448_400)
        #expect(shrunk[6] == 303_104..<358_400 && shrunk[2] == 202_356..<358_400)
    }

    @Test func anMBRReachesTwoTebibytes() throws {
        var disk = MadeUpLayout(mbr: [(1, .primary, 2048, 1 << 31)], sectors: 1 << 32)
        disk.abilities[1] = PartitionAbility(leastByteCount: 0, canGrow: true)
        let grown = try disk.plan(target(6 << 31), .grow, unit: 512)
        #expect(grown.ranges[1] == 2048..<4_294_965_248)
        let reach = UInt64(UInt32.max) * 512
        #expect(grown.remarks == [.endUnused(byteCount: (6 << 40) - reach, sectorSize: 512, reach: reach)])
        #expect(disk.refusal(mebibytes: 4 << 20, .keep, ["1=3T"]).contains("exceeds the table's address range"))
        // A disk with sectors of 4096 bytes reaches eight times as far: its partitions fit no MBR of 512.
        disk.source.logicalSectorSize = 4096
        disk.table.partitions[0].range = 1 << 20..<3 << 40
        #expect(disk.refusal(mebibytes: 8 << 20, .keep).contains("do not fit a target of any size"))
    }
}
