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
        if: Tool.have("mke2fs", "debugfs", "e2fsck", "dumpe2fs", "mdadm"), "needs e2fsprogs and mdadm"))
struct RAIDTests {
    private static let mebibyte = 1 << 20

    private func patch(_ path: FilePath, _ bytes: [UInt8], at offset: Int) throws {
        let file = try FileDescriptor.open(path, .readWrite)
        defer { try? file.close() }
        _ = try file.writeAll(toAbsoluteOffset: Int64(offset), bytes)
    }

    /// A member with an ext4 in the array.
    private func member(
        _ bench: Workbench, _ fixture: RAIDFixture, using random: inout SeededGenerator
    ) throws -> (path: FilePath, used: AllocationMap) {
        let array = try bench.sparseFile("array", byteCount: UInt64(fixture.length))
        try bench.fillExt(array, byteCount: UInt64(fixture.length), using: &random)
        let path = try bench.sparseFile("member", byteCount: UInt64(fixture.byteCount))
        try patch(path, try BlockDevice(opening: array).readBytes(at: 0, count: fixture.length), at: fixture.dataOffset)
        try patch(path, fixture.superblock, at: fixture.place)
        let dump = try Tool.run(["dumpe2fs", array.string])
        return (path, try DumpedBlocks(dump, volumeByteCount: UInt64(fixture.length)).used)
    }

    @Test(arguments: ["0.90", "1.0", "1.1", "1.2"]) func aMirrorIsFollowed(version: String) throws {
        var random = Sample.generator(5200 + (version.last?.wholeNumberValue ?? 0))
        let bench = try Workbench()
        let length = Int.random(in: 18...24, using: &random) * Self.mebibyte
        let fixture = RAIDFixture(version: version, byteCount: 26 * Self.mebibyte + 512 * 7, length: length)
        let (path, used) = try member(bench, fixture, using: &random)
        let comment: Comment = "seed \(Sample.seed), md \(version)"
        let examined = try Tool.run(["mdadm", "--examine", path.string])
        #expect(examined.contains("- correct") && examined.contains("raid1"), "\(comment): \(examined)")
        #expect(examined.contains("Version : \(version)"), "\(comment): \(examined)")

        let (info, map) = try bench.survey("member")
        #expect(info.kind == .raid && info.mapSource == .allocationStructures, "\(comment): \(info)")
        #expect(
            try bench.opinion("member") == .found(kindName: "linux_raid_member", uuid: info.uuid, label: info.label),
            comment)
        #expect(info.features == ["md \(version)", "raid1"] && info.remarks.count == 1)
        let inner = try #require(info.inner?.first)
        #expect(inner.filesystem.kind == .ext4 && inner.byteCount == UInt64(length))
        #expect(inner.name == (version == "0.90" ? "array" : "host:root"))
        var expected = AllocationMap(byteCount: map.byteCount)
        let start = UInt64(fixture.dataOffset)
        expected.insert(0..<start)
        expected.insert(contentsOf: used, offset: start)
        expected.insert(start + UInt64(length)..<map.byteCount)
        #expect(expected.isSubset(of: map), comment)
        let excess = map.usedByteCount - expected.usedByteCount
        #expect(excess * 200 <= map.byteCount, comment)
        print("\(comment): over-approximation \(percent(excess, of: map.byteCount))")

        try spoilUnused(path, map)
        #expect(try Tool.run(["mdadm", "--examine", path.string]) == examined)
        let back = try bench.sparseFile("back", byteCount: UInt64(length))
        try patch(back, try BlockDevice(opening: path).readBytes(at: start, count: length), at: 0)
        let check = try ChildProcess.run(["e2fsck", "-fn", back.string])
        #expect(check.succeeded, "\(comment): \(check.text)")
    }

    /// Every reason why one member's contents say nothing about the array.
    @Test func whatCannotBeFollowedIsTakenWhole() throws {
        func expect(
            _ reason: String, _ version: String = "1.2", _ change: (inout RAIDFixture, inout [UInt8]) -> Void
        ) throws {
            var fixture = RAIDFixture(version: version, byteCount: 2 * Self.mebibyte, length: 512 << 10)
            var unused: [UInt8] = []
            change(&fixture, &unused)
            var superblock = fixture.superblock
            change(&fixture, &superblock)
            fixture.mend(&superblock)
            var bytes = [UInt8](repeating: 0, count: fixture.byteCount)
            bytes.replaceSubrange(fixture.place..<fixture.place + 4096, with: superblock)
            let (info, map) = try VolumeIdentifier.survey(MemoryDisk(bytes))
            #expect(info.kind == .raid && info.wholeReason == reason)
            #expect(map == .whole(byteCount: UInt64(fixture.byteCount)))
        }
        func set<Value: FixedWidthInteger>(_ bytes: inout [UInt8], _ value: Value, _ offset: Int) {
            if !bytes.isEmpty { bytes.setLittleEndian(value, at: offset) }
        }
        try expect("it holds a part of an array (raid5)") { fixture, _ in fixture.level = 5 }
        try expect("it holds a part of an array (linear)") { fixture, _ in fixture.level = -1 }
        try expect("its array is larger than its md member") { fixture, _ in fixture.length = 1 << 30 }
        try expect("its array is larger than its md member", "0.90") { fixture, _ in fixture.length = 1 << 30 }
        try expect("its array is being reshaped") { set(&$1, 4 as UInt32, 8) }
        try expect("its array is being rebuilt") { set(&$1, 2 as UInt32, 8) }
        try expect("md noted bad blocks on it") { set(&$1, 8 as UInt32, 8) }
        try expect("its array has a feature that is not known here") { set(&$1, 1 << 20 as UInt32, 8) }
        try expect("its array has a feature that is not known here") { set(&$1, 1 as UInt32, 240) }
        try expect("its array was not cleanly stopped, or is not in sync") { set(&$1, 0 as UInt64, 208) }
        try expect("it is a spare of its array") { set(&$1, 0xFFFF as UInt16, 256) }
        try expect("md calls it faulty") { set(&$1, 0xFFFE as UInt16, 256) }
        try expect("its array overlaps its md metadata") {
            set(&$1, 1 as UInt32, 8)
            set(&$1, 2048 as UInt32, 96)
        }
        try expect("its array overlaps its md metadata") { fixture, _ in fixture.dataOffset = 4096 }
        try expect("the number of roles in its md superblock is not valid") { set(&$1, 4000 as UInt32, 220) }
        try expect("the place of its md superblock in itself is not valid") { set(&$1, 16 as UInt64, 144) }
        try expect("its array is being reshaped", "0.90") { set(&$1, 91 as UInt32, 8) }
        try expect("its array was not cleanly stopped, or is not in sync", "0.90") { set(&$1, 0 as UInt32, 132) }
        try expect("md calls it faulty", "0.90") { set(&$1, 7 as UInt32, 996 * 4) }
        try expect("it is a spare of its array", "0.90") { set(&$1, 0 as UInt32, 996 * 4) }
    }

    @Test func anOlderSuperblockBesideItAndDamageAreSeen() throws {
        let fixture = RAIDFixture(version: "1.2", byteCount: 2 * Self.mebibyte, length: 512 << 10)
        var bytes = [UInt8](repeating: 0, count: fixture.byteCount)
        bytes.replaceSubrange(fixture.place..<fixture.place + 4096, with: fixture.superblock)
        #expect(try VolumeIdentifier.survey(MemoryDisk(bytes)).0.mapSource == .allocationStructures)
        var damaged = bytes
        damaged[fixture.place + 100] ^= 1
        #expect(
            try VolumeIdentifier.survey(MemoryDisk(damaged)).0.wholeReason
                == "the checksum of its md superblock is not valid")
        let old = RAIDFixture(version: "1.0", byteCount: fixture.byteCount, length: 1 << 20)
        bytes.replaceSubrange(old.place..<old.place + 4096, with: old.superblock)
        let (info, map) = try VolumeIdentifier.survey(MemoryDisk(bytes))
        #expect(info.wholeReason == "it has more than one md superblock" && map == .whole(byteCount: map.byteCount))
    }

    /// LVM in a mirror: the layout that installers use for servers.
    @Test func aPhysicalVolumeInAMirror() throws {
        let text = LVMFixture.text([LVMFixture.volume("root", LVMFixture.linear([(3, 2)]))])
        let inside = LVMFixture.bytes(text)
        let fixture = RAIDFixture(version: "1.2", byteCount: inside.count + 2 * Self.mebibyte, length: inside.count)
        var bytes = [UInt8](repeating: 0, count: fixture.byteCount)
        bytes.replaceSubrange(fixture.place..<fixture.place + 4096, with: fixture.superblock)
        bytes.replaceSubrange(fixture.dataOffset..<fixture.dataOffset + inside.count, with: inside)
        let (info, map) = try VolumeIdentifier.survey(MemoryDisk(bytes))
        #expect(info.inner?.first?.filesystem.inner?.first?.name == "vg/root")
        #expect(map.ranges.map { [$0.lowerBound >> 20, $0.upperBound >> 20] } == [[0, 2], [5, 7], [17, 18]])
        let disk = MemoryDisk(bytes)
        let survey = try DiskSurveyor.survey(
            disk, identity: DiskIdentity(path: "memory"), geometry: DiskGeometry(byteCount: disk.byteCount))
        #expect(
            survey.warnings == [
                "the disk: host:root: vg/root: all of it counts as used: nothing is recognised on it",
                "the disk: linux_raid_member is one of 2 members of an array: another one may hold newer contents",
            ])
    }
}
