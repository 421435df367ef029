// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

@Suite(
    .enabled(
        if: Tool.have("pvcreate", "lvcreate", "vgck", "mke2fs", "debugfs", "e2fsck", "dumpe2fs"),
        "needs lvm2 and e2fsprogs"))
struct LVMTests {
    static let cases = Array(0..<(Sample.isFull ? 40 : 4))

    /// Volumes that were created, grown and removed until they are fragmented, each with a filesystem at the
    /// places from `lvs`: Reforge's map contains all blocks that dumpe2fs lists as used, and the rest is
    /// valid for LVM and e2fsck.
    @Test(arguments: cases) func agedVolumesAreFollowed(index: Int) throws {
        var random = Sample.generator(5000 + index)
        let bench = try Workbench()
        let byteCount = UInt64(Int.random(in: 100...160, using: &random)) << 20
        let extent = ["1M", "4M", "2M", "512k"][index % 4]
        let create = index % 2 == 0 ? [] : ["--metadatacopies", "2", "--bootloaderareasize", "1M"]
        let lvm = try LVMBench(bench, diskByteCounts: [byteCount], create: create, extend: ["-s", extent])
        let comment: Comment = "seed \(Sample.seed), case \(index): extents of \(extent) \(create)"
        let unit = try lvm.extentPlaces().byteCount
        let share = Int(byteCount / unit) / 12
        for name in ["a", "b", "c", "d", "e"] {
            try lvm.create(name, extents: Int.random(in: 1...share, using: &random))
        }
        try lvm.run(["lvremove", "-q", "-f", "\(lvm.group)/b"])
        for _ in 0..<5 {
            let name = try #require(["a", "c", "d", "e"].randomElement(using: &random))
            let count = Int.random(in: 1...share / 2 + 1, using: &random)
            _ = try? lvm.run(["lvextend", "-q", "-l+\(count)", "\(lvm.group)/\(name)"])
        }
        try lvm.create("f", extents: share)
        try lvm.run(["lvremove", "-q", "-f", "\(lvm.group)/d"])
        _ = try? lvm.run(["lvextend", "-q", "-l+\(share)", "\(lvm.group)/f"])
        try lvm.settle()

        let places = try lvm.extentPlaces()
        let disk = bench.path("disk0")
        var expected = AllocationMap(byteCount: byteCount)
        var volumes: [(splicer: Splicer, kind: FilesystemInfo.Kind, used: AllocationMap)] = []
        let parts = try lvm.parts()
        for name in ["a", "c", "e", "f"] {
            let own = parts.filter { $0.volume == name }.map { part in
                (
                    start: part.start * unit,
                    place: places.start + part.place.lowerBound * unit..<places.start + part.place.upperBound * unit
                )
            }
            let length = own.reduce(0) { $0 + $1.place.byteCount }
            let image = try bench.sparseFile(name, byteCount: length)
            let kind: FilesystemInfo.Kind = name == "c" ? .swap : length < 4 << 20 ? .unknown : .ext4
            switch kind {
            case .swap: try Tool.run(["mkswap", "-p", "4096", image.string])
            case .ext4: try bench.fillExt(image, byteCount: length, using: &random)
            default: break
            }
            let used =
                kind == .ext4
                ? try DumpedBlocks(try Tool.run(["dumpe2fs", image.string]), volumeByteCount: length).used
                : kind == .swap
                    ? AllocationMap(byteCount: length, unsorted: [0..<4096]) : .whole(byteCount: length)
            for part in own {
                for range in used.ranges(in: part.start..<part.start + part.place.byteCount) {
                    expected.insert(
                        part.place.lowerBound + range.lowerBound - part.start..<part.place.lowerBound + range.upperBound
                            - part.start)
                }
            }
            let splicer = Splicer(disk: disk, volume: image, parts: own)
            try splicer.toDisk()
            volumes.append((splicer, kind, used))
        }
        let (info, map) = try bench.survey("disk0")
        #expect(info.kind == .lvm && info.mapSource == .allocationStructures, "\(comment): \(info)")
        #expect(try bench.opinion("disk0") == .found(kindName: "LVM2_member", uuid: info.uuid, label: nil), comment)
        #expect(info.features == ["vg:\(lvm.group)"] && info.wholeReason == nil, comment)
        #expect(info.inner?.map(\.name) == ["a", "c", "e", "f"].map { "\(lvm.group)/\($0)" }, comment)
        #expect(info.inner?.map(\.filesystem.kind) == volumes.map(\.kind), comment)
        #expect(info.inner?.map(\.byteCount) == volumes.map { $0.splicer.parts.reduce(0) { $0 + $1.place.byteCount } })
        #expect(expected.ranges.filter { !map.covers($0) } == [], comment)
        #expect(map.covers(0..<places.start), comment)
        let excess = map.usedByteCount - min(map.usedByteCount, expected.usedByteCount)
        let outside = places.start + byteCount % unit + unit
        #expect(excess <= outside + byteCount / 200, comment)
        let pieces = volumes.map(\.splicer.parts.count)
        print("\(comment): pieces \(pieces), beside the volumes \(percent(excess, of: byteCount))")

        // The final judgement by the tools.
        try spoilUnused(disk, map)
        for (splicer, kind, used) in volumes {
            let back = try bench.sparseFile("back", byteCount: used.byteCount)
            try Splicer(disk: disk, volume: back, parts: splicer.parts).toVolume()
            let (old, new) = (try BlockDevice(opening: splicer.volume), try BlockDevice(opening: back))
            for range in used.ranges {
                let count = Int(range.byteCount)
                let isSame =
                    try old.readBytes(at: range.lowerBound, count: count)
                    == new.readBytes(at: range.lowerBound, count: count)
                #expect(isSame, comment)
            }
            guard kind == .ext4 else { continue }
            let check = try ChildProcess.run(["e2fsck", "-fn", back.string])
            #expect(check.succeeded, "\(comment): \(check.text)")
        }
        try Tool.run(["blockdev", "--flushbufs", lvm.device()])
        try lvm.run(["vgck", lvm.group])
        try lvm.run(["pvck", lvm.device()])
        #expect(try lvm.parts().count == parts.count)
    }

    /// Volumes over two disks: a volume on one disk is followed there, the rest counts as used on both.
    @Test func volumesOverSeveralDisks() throws {
        let bench = try Workbench()
        let lvm = try LVMBench(bench, diskByteCounts: [64 << 20, 48 << 20])
        try lvm.create("first", extents: 4)
        try lvm.run([
            "lvcreate", "-q", "-an", "-Zn", "-Wn", "-l", "3", "-n", "second", lvm.group, lvm.device(1),
        ])
        try lvm.run(["lvcreate", "-q", "-an", "-Zn", "-Wn", "-l", "4", "-i", "2", "-n", "striped", lvm.group])
        try lvm.run(["lvcreate", "-q", "-an", "-Zn", "-Wn", "-l", "12", "-n", "both", lvm.group])
        try lvm.settle()
        let parts = try lvm.parts()
        for index in 0...1 {
            let places = try lvm.extentPlaces(index)
            let (info, map) = try bench.survey("disk\(index)")
            #expect(info.mapSource == .allocationStructures)
            let reasons = (info.inner ?? []).map { "\($0.name): \($0.filesystem.wholeReason ?? "")" }
            let here = "nothing is recognised on it"
            #expect(
                reasons == [
                    "group/first: \(index == 0 ? here : "it lies on other disks")",
                    "group/second: \(index == 1 ? here : "it lies on other disks")",
                    "group/striped: it is striped over several areas", "group/both: it lies on other disks too",
                ])
            var expected = AllocationMap(
                byteCount: map.byteCount,
                unsorted: parts.filter { $0.disk == index }.map { part in
                    places.start + part.place.lowerBound * places.byteCount..<places.start + part.place.upperBound
                        * places.byteCount
                })
            expected.insert(0..<places.start)
            let end = places.start + (map.byteCount - places.start) / places.byteCount * places.byteCount
            expected.insert(end..<map.byteCount)
            #expect(map == expected)
        }
    }

    @Test func whatCannotBeFollowedIsTakenWhole() throws {
        let bench = try Workbench()
        let lvm = try LVMBench(bench, diskByteCounts: [32 << 20])
        try lvm.create("root", extents: 2)
        try lvm.settle()
        let (plain, plainMap) = try bench.survey("disk0")
        #expect(plain.mapSource == .allocationStructures && plainMap.usedByteCount < 16 << 20)
        try lvm.run(["vgchange", "-q", "--setautoactivation", "n", lvm.group])
        try lvm.settle()
        #expect(try bench.survey("disk0").0.mapSource == .allocationStructures)
        try lvm.run(["vgexport", "-q", lvm.group])
        try lvm.settle()
        #expect(try bench.survey("disk0").0.wholeReason == "its volume group group is EXPORTED")
        try lvm.run(["vgimport", "-q", lvm.group])
        try lvm.run(["lvremove", "-q", "-f", "\(lvm.group)/root"])
        try lvm.settle()
        let (empty, emptyMap) = try bench.survey("disk0")
        #expect(empty.inner == [] && emptyMap.ranges == [0..<1 << 20, (32 << 20) - (3 << 20)..<32 << 20])
        try lvm.run(["vgremove", "-q", lvm.group])
        try lvm.settle()
        let (orphan, orphanMap) = try bench.survey("disk0")
        #expect(orphan.kind == .lvm && orphan.wholeReason == "it belongs to no volume group")
        #expect(orphanMap == .whole(byteCount: 32 << 20))
    }
}

extension Workbench {
    /// A random ext4, half of whose files are deleted again.
    func fillExt(_ image: FilePath, byteCount: UInt64, using random: inout SeededGenerator) throws {
        let tree = "tree of \(image.lastComponent?.string ?? "")"
        let files = try randomTree(tree, files: 20, maximumByteCount: 30_000, using: &random)
        // A journal has 1024 blocks or more.
        let kibibytes = byteCount < 16 << 20 || Bool.random(using: &random) ? 1 : 4
        try Tool.run([
            "mke2fs", "-q", "-F", "-t", "ext4", "-b", "\(kibibytes * 1024)", "-J", "size=\(kibibytes)", "-d",
            path(tree).string, image.string,
            "\(byteCount / 1024)k",
        ])
        let doomed = files.keys.sorted().filter { _ in Bool.random(using: &random) }
        try Tool.run(
            ["debugfs", "-w", "-f", "-", image.string], input: doomed.map { "rm \"/\($0)\"\n" }.joined())
    }
}
