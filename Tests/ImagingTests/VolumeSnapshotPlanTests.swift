// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import TestSupport
import Testing

@testable import Imaging
@testable import LinuxSystem

@Suite struct VolumeSnapshotPlanTests {
    private static let mebibyte: UInt64 = 1 << 20

    /// A group of one physical volume at 64 MiB of the disk, with 4 MiB extents.
    private func lvm(_ volumes: String, free: Int = 100, areas: Int = 1) throws -> LogicalVolumes {
        try LogicalVolumes.parse(
            pvs: """
                /dev/vda2|vg0|1048576|230|4194304|\(free)|966787072|\(areas)
                /dev/vdb1|vg0|1048576|230|4194304|\(free)|966787072|1
                """, lvs: volumes)
    }
    private func plan(_ lvm: LogicalVolumes) throws(ImagingError) -> VolumeSnapshotPlan {
        try VolumeSnapshotPlan(lvm, starts: ["/dev/vda2": 64 * Self.mebibyte], isInUse: { !$0.name.hasPrefix("swap") })
    }
    private func refusal(_ volumes: String, free: Int = 100) throws -> String {
        let lvm = try lvm(volumes, free: free)
        do {
            _ = try plan(lvm)
            return "accepted"
        } catch {
            guard case .refused(let why) = error else { return "failed: \(error)" }
            return why
        }
    }

    private let root = """
        r|vg0|root|-wi-ao----|209715200|linear|0|104857600||253|0||/dev/vda2(10)
        r|vg0|root|-wi-ao----|209715200|linear|104857600|104857600||253|0||/dev/vda2(60)
        """

    @Test func placesAreThoseOfTheDisk() throws {
        let plan = try plan(
            lvm(
                root + """

                    h|vg0|home|-wi-a-----|4194304|linear|0|4194304||253|1||/dev/vda2(0)
                    s|vg0|swap|-wi-ao----|4194304|linear|0|4194304||253|2||/dev/vda2(1)
                    o|vg0|other|-wi-ao----|4194304|linear|0|4194304||253|3||/dev/vdb1(1)
                    """, areas: 2))
        let volume = try #require(plan.volumes.first)
        #expect(plan.volumes.count == 1, "not open, swap and elsewhere are left alone")
        let base = 65 * Self.mebibyte
        #expect(
            volume.pieces.map(\.range) == [
                base + 40 * Self.mebibyte..<base + 140 * Self.mebibyte,
                base + 240 * Self.mebibyte..<base + 340 * Self.mebibyte,
            ])
        #expect(volume.pieces.map(\.offset) == [0, 100 * Self.mebibyte])
        // At most the length of the volume and its tables: 200 MiB is less than the minimum of 256 MiB.
        #expect(volume.extentCount == 52)
        #expect(
            plan.metadataRanges == [
                64 * Self.mebibyte..<base, base + 920 * Self.mebibyte..<64 * Self.mebibyte + 966_787_072,
            ])
    }

    @Test func roomIsShared() throws {
        let two = root + "\nh|vg0|home|-wi-ao----|838860800|linear|0|838860800||253|1||/dev/vda2(0)"
        let plenty = try plan(lvm(two, free: 200))
        #expect(plenty.volumes.map(\.extentCount) == [52, 65])
        let little = try plan(lvm(two, free: 3))
        #expect(little.volumes.allSatisfy { $0.extentCount >= 1 })
        #expect(little.volumes.reduce(0) { $0 + $1.extentCount } <= 3)
        #expect(try refusal(two, free: 1).contains("only 1 free extents"))
        #expect(try refusal(two, free: 0).contains("no free space"))
    }

    /// Random numbers: at most the free extents in total, and at least one for each volume.
    @Test func whatIsSharedIsNeverMoreThanThereIs() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        for round in 0..<300 {
            let sizes = (0..<Int.random(in: 1...8, using: &random)).map { _ in
                round == 0 ? 5 : Int.random(in: 1...(1 << Int.random(in: 0...20, using: &random)), using: &random)
            }
            let free =
                round == 0 ? 3 : Int.random(in: 0...(1 << Int.random(in: 0...16, using: &random)), using: &random)
            let lines = sizes.enumerated().map { number, size in
                "u\(number)|vg0|v\(number)|-wi-ao----|\(size << 22)|linear|0|\(size << 22)||253|\(number)||/dev/vda2(0)"
            }
            let lvm = try LogicalVolumes.parse(
                pvs: "/dev/vda2|vg0|1048576|2000000|4194304|\(free)|\(2_000_001 << 22)|1",
                lvs: lines.joined(separator: "\n"))
            do throws(ImagingError) {
                let given = try plan(lvm).volumes.map(\.extentCount)
                #expect(given.count == sizes.count && given.allSatisfy { $0 >= 1 }, "seed \(seed)")
                #expect(given.reduce(0, +) <= UInt64(free), "seed \(seed)")
            } catch {
                #expect(free < sizes.count, "seed \(seed): \(error)")
            }
        }
        // A large volume first, and few free extents: this trapped once.
        let uneven = try LogicalVolumes.parse(
            pvs: "/dev/vda2|vg0|1048576|2000000|4194304|3|\(2_000_001 << 22)|1",
            lvs: [25_000, 100, 100].enumerated().map { number, size in
                "u\(number)|vg0|v\(number)|-wi-ao----|\(size << 22)|linear|0|\(size << 22)||253|\(number)||/dev/vda2(0)"
            }.joined(separator: "\n"))
        #expect(try plan(uneven).volumes.map(\.extentCount) == [1, 1, 1])
    }

    /// Uses without a snapshot below: volumes on LUKS or RAID, and uses outside of LVM.
    @Test func whatNoSnapshotHoldsStillIsNamed() {
        let uses: [DiskUse] = [
            .held(node: "sda3", by: "luks", kernelName: "dm-0"),
            .held(node: "dm-0", by: "vg0-root", kernelName: "dm-1"), .mounted(node: "dm-1", at: "/", readOnly: false),
            .held(node: "dm-0", by: "vg0-swap", kernelName: "dm-2"), .swap(node: "dm-2"),
            .held(node: "dm-0", by: "vg0-machine", kernelName: "dm-3"),
            .held(node: "dm-0", by: "vg0-idle", kernelName: "dm-4"),
            .mounted(node: "sda1", at: "/boot", readOnly: true),
        ]
        #expect(
            VolumeSnapshotPlan.uncovered(uses, open: ["dm-1": "/dev/vg0/root", "dm-3": "/dev/vg0/machine"])
                == ["/", "/dev/vg0/machine"])
        #expect(VolumeSnapshotPlan.uncovered([.mounted(node: "sda1", at: "/boot", readOnly: true)], open: [:]).isEmpty)
    }

    @Test func whatCannotBeHeldStillIsRefused() throws {
        #expect(
            try refusal("r|vg0|root|Vwi-aotz--|209715200|thin|0|209715200||253|0||").contains("type thin"))
        #expect(
            try refusal("r|vg0|root|rwi-aor---|4194304|raid1|0|4194304||253|0||root_rimage_0(0),root_rimage_1(0)")
                .contains("type raid1"))
        #expect(
            try refusal("r|vg0|root|-wi-ao----|8388608|striped|0|8388608||253|0||/dev/vda2(0),/dev/vdb1(0)")
                .contains("type striped"))
        #expect(
            try refusal(
                """
                r|vg0|root|-wi-ao----|8388608|linear|0|4194304||253|0||/dev/vda2(0)
                r|vg0|root|-wi-ao----|8388608|linear|4194304|4194304||253|0||/dev/vdb1(0)
                """
            ).contains("several disks (a part is on /dev/vdb1)"))
        #expect(
            try refusal(root + "\ns|vg0|before|swi-a-s---|8388608|linear|0|8388608|root|253|3||/dev/vda2(200)")
                .contains("vg0/before is a snapshot of root"))
        // A volume on other disks only does not matter.
        #expect(
            try refusal("r|vg0|root|-wi-ao----|8388608|striped|0|8388608||253|0||/dev/vdb1(0),/dev/vdb1(9)")
                == "accepted")
    }

    @Test func impossibleExtentsAreErrors() throws {
        #expect(
            try refusal("r|vg0|root|-wi-ao----|8388608|linear|0|8388608||253|0||/dev/vda2(229)").contains(
                "outside /dev/vda2"))
        #expect(
            try refusal("r|vg0|root|-wi-ao----|8388608|linear|0|8388608||253|0||/dev/vda2(18446744073709551615)")
                .contains("outside /dev/vda2"))
    }
}
