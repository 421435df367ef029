// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import TestSupport
import Testing

@testable import Filesystems

/// The survey of a physical volume that is to be resized.
@Suite struct LVMResizeTests {
    private func group(_ text: String) throws -> FilesystemInfo {
        try VolumeIdentifier.survey(MemoryDisk(LVMFixture.bytes(text))).0
    }

    private func obstacle(_ text: String) throws -> String? { try group(text).volumeGroup?.resizeObstacle }

    @Test func plainVolumesOfOneDiskFollow() throws {
        let volumes = [LVMFixture.volume("root", LVMFixture.linear([(3, 2), (0, 1)]))]
        let info = try group(LVMFixture.text(volumes, isAlone: true))
        let found = try #require(info.volumeGroup)
        #expect(found.name == "vg" && found.id == "11111111111111111111111111111111")
        #expect(found.extentStart == 1 << 20 && found.extentByteCount == 1 << 20 && found.extentCount == 15)
        #expect(found.tailByteCount == 0 && found.resizeObstacle == nil)
        // Nothing is recognised in the volume: it keeps its 3 extents.
        #expect(info.leastByteCount == 4 << 20 && info.resizeAbility.canGrow && info.resizeAbility.canShrink)
    }

    @Test func whatIsNotPlainKeepsItsSize() throws {
        let root = LVMFixture.volume("root", LVMFixture.linear([(3, 2)]))
        #expect(try obstacle(LVMFixture.text([root]))?.contains("2 disks") == true)
        func alone(
            _ volume: String, status: String = "\"RESIZEABLE\", \"READ\", \"WRITE\"", disk: String = "\"ALLOCATABLE\"",
            group: String = ""
        ) throws -> String? {
            try obstacle(
                LVMFixture.text([volume], status: status, diskStatus: disk, group: group, isAlone: true))
        }
        #expect(try alone(root) == nil)
        #expect(try alone(root, status: "\"READ\", \"WRITE\"")?.contains("may not be changed") == true)
        #expect(try alone(root, disk: "")?.contains("allocates nothing") == true)
        #expect(try alone(root, group: "system_id = \"other\"")?.contains("system other") == true)
        let stripes = LVMFixture.segment(
            0, 4, "type = \"striped\" stripe_count = 2 stripe_size = 128 stripes = [ \"pv0\", 0, \"pv0\", 8 ]")
        #expect(try alone(LVMFixture.volume("root", [stripes]))?.contains("striped") == true)
        let snapshot = LVMFixture.segment(
            0, 2, "type = \"snapshot\" chunk_size = 8 origin = \"root\" cow_store = \"cow\"")
        #expect(try alone(root + LVMFixture.volume("snap", [snapshot])) != nil)
        for status in [["READ", "VISIBLE"], ["READ", "WRITE", "VISIBLE", "FIXED_MINOR"]] {
            let odd = LVMFixture.volume("root", LVMFixture.linear([(3, 2)]), status: status)
            #expect(try alone(odd)?.contains("may not be changed") == true)
        }
        #expect(try group(LVMFixture.text([root])).leastByteCount == nil)
    }

    /// LVM's own program gives a physical volume of any length at least as many extents as computed.
    @Test(
        .enabled(if: Tool.have("pvcreate", "pvresize", "lvcreate"), "needs lvm2"),
        arguments: Array(0..<(Sample.isFull ? 24 : 4)))
    func pvresizeLeavesWhatIsCountedOn(index: Int) throws {
        var random = Sample.generator(6000 + index)
        let bench = try Workbench()
        let mebibytes = Int.random(in: 40...60, using: &random)
        var create = ["--setphysicalvolumesize", "\(mebibytes)M"]
        if index % 2 == 1 { create += ["--metadatacopies", "2"] }
        if index % 4 >= 2 { create += ["--metadatasize", "\(Int.random(in: 1...4, using: &random))M"] }
        let extent = ["1M", "4M", "512k", "8M"][Int.random(in: 0..<4, using: &random)]
        let lvm = try LVMBench(bench, diskByteCounts: [160 << 20], create: create, extend: ["-s", extent])
        let comment: Comment = "seed \(Sample.seed), case \(index): extents of \(extent), \(create)"
        try lvm.create("one", extents: 1)
        try lvm.settle()
        let group = try #require(try bench.survey("disk0").0.volumeGroup, comment)
        #expect(group.resizeObstacle == nil && (group.tailByteCount > 0) == (index % 2 == 1), comment)
        #expect(try extentCount(lvm) == group.extentCount, comment)
        for _ in 0..<4 {
            let length = UInt64(Int.random(in: 24 << 11...160 << 11, using: &random)) * 512
            try lvm.run(["pvresize", "-q", "-y", "--setphysicalvolumesize", "\(length)b", lvm.device()])
            let (real, counted) = (try extentCount(lvm), group.extentCount(in: length))
            #expect(real >= counted, "\(comment), \(length) bytes")
            #expect((real - min(real, counted)) * group.extentByteCount <= group.extentStart + group.extentByteCount)
        }
        try lvm.run(["vgck", lvm.group])
        // After any number of changes, it is still known to fill its disk, and can be resized again.
        try lvm.run(["pvresize", "-q", "-y", lvm.device()])
        try lvm.settle()
        let again = try bench.survey("disk0").0
        #expect(LayoutPlanner.fills(again, 0..<160 << 20), "\(comment): \(again.byteCount ?? 0) bytes")
    }

    private func extentCount(_ lvm: LVMBench) throws -> UInt64 {
        let text = try lvm.run(["pvs", "--noheadings", "-o", "pv_pe_count", lvm.device()])
        return try #require(UInt64(text.filter(\.isNumber)))
    }
}
