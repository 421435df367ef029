// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import TestSupport
import Testing

@testable import Filesystems

/// Metadata that LVM's programs do not write on this machine: the disk is built by hand (`LVMFixture`).
struct LVMMetadataTests {
    private typealias Fixture = LVMFixture

    private func survey(_ text: String) throws -> (FilesystemInfo, AllocationMap) {
        try VolumeIdentifier.survey(MemoryDisk(Fixture.bytes(text)))
    }

    /// Extents of the fixture, in bytes.
    private func extents(_ range: Range<UInt64>) -> ByteRange {
        (range.lowerBound + 1) << 20..<(range.upperBound + 1) << 20
    }

    private func reasons(_ info: FilesystemInfo) -> [String] {
        (info.inner ?? []).map { "\($0.name): \($0.filesystem.wholeReason ?? "looked into")" }
    }

    @Test(arguments: [1024, 4096, (1 << 20) - 4096 - 100, (1 << 20) - 4096 - 1])
    func theTextMayWrapAroundItsArea(offset: Int) throws {
        let text = Fixture.text([Fixture.volume("root", Fixture.linear([(3, 2), (0, 1)]))])
        let (info, map) = try VolumeIdentifier.survey(MemoryDisk(Fixture.bytes(text, offset: offset)))
        #expect(info.wholeReason == nil && info.uuid == "abcdef-ghij-klmn-opqr-stuv-wxyz-ABCDEF")
        #expect(reasons(info) == ["vg/root: nothing is recognised on it"])
        #expect(info.inner?.first?.byteCount == 3 << 20)
        #expect(map.ranges == [0..<2 << 20, extents(3..<5)])
    }

    /// Swap in two pieces, the second before the first: only its header counts, at its place.
    @Test func aVolumeIsReadInItsOwnOrder() throws {
        let text = Fixture.text([Fixture.volume("swap", Fixture.linear([(9, 1), (2, 3)]))])
        var bytes = Fixture.bytes(text)
        let header = Int(extents(9..<10).lowerBound)
        bytes.setLittleEndian(1 as UInt32, at: header + 1024)
        bytes.setLittleEndian(1023 as UInt32, at: header + 1028)
        bytes.replaceSubrange(header + 4086..<header + 4096, with: Array("SWAPSPACE2".utf8))
        let (info, map) = try VolumeIdentifier.survey(MemoryDisk(bytes))
        #expect(info.inner?.first?.filesystem.kind == .swap && info.inner?.first?.filesystem.mapSource == .headerOnly)
        #expect(map.ranges == [0..<1 << 20, UInt64(header)..<UInt64(header) + 4096])
        // With a hibernation image everything counts: its header is not replaced.
        bytes.replaceSubrange(header + 4086..<header + 4096, with: Array("S1SUSPEND\0".utf8))
        let (suspended, all) = try VolumeIdentifier.survey(MemoryDisk(bytes))
        #expect(reasons(suspended) == ["vg/swap: it holds a hibernation image"])
        #expect(all.ranges == [0..<1 << 20, extents(2..<5), extents(9..<10)])
    }

    /// One volume that cannot be read, beside one that can.
    @Test func anUnreadableVolumeCountsAlone() throws {
        let text = Fixture.text([
            Fixture.volume("bad", Fixture.linear([(0, 1)])), Fixture.volume("swap", Fixture.linear([(2, 1)])),
        ])
        var bytes = Fixture.bytes(text)
        let header = Int(extents(2..<3).lowerBound)
        bytes.setLittleEndian(1 as UInt32, at: header + 1024)
        bytes.setLittleEndian(255 as UInt32, at: header + 1028)
        bytes.replaceSubrange(header + 4086..<header + 4096, with: Array("SWAPSPACE2".utf8))
        let disk = MemoryDisk(bytes)
        disk.makeUnreadable(extents(0..<1))
        let (info, map) = try VolumeIdentifier.survey(disk)
        #expect(info.inner?.map(\.filesystem.kind) == [.unknown, .swap])
        #expect(info.inner?.first?.filesystem.wholeReason?.contains("medium error") == true)
        #expect(map.ranges == [0..<2 << 20, UInt64(header)..<UInt64(header) + 4096])
    }

    /// Where a volume is contiguous, libblkid is asked about it too; in pieces, it would see other data.
    @Test func theSecondOpinionCountsInside() throws {
        let text = Fixture.text([
            Fixture.volume("one", Fixture.linear([(4, 2)])), Fixture.volume("two", Fixture.linear([(8, 1), (7, 1)])),
        ])
        var bytes = Fixture.bytes(text)
        for extent in [4, 8] as [UInt64] {
            // dm-integrity, which no reader of Reforge knows.
            let start = Int(extents(extent..<extent + 1).lowerBound)
            bytes.replaceSubrange(start..<start + 9, with: Array("integrt\0".utf8) + [1])
        }
        let bench = try Workbench()
        try bench.write(bytes, to: bench.path("image"))
        let (info, _) = try bench.survey("image")
        #expect(info.inner?.map(\.filesystem.kindName) == ["DM_integrity", "unknown"])
    }

    /// The disk of a virtual machine in a volume that was an ext4 once.
    @Test(.enabled(if: Tool.have("mke2fs", "debugfs"), "needs e2fsprogs"))
    func aPartitionTableInAVolumeIsNotFollowed() throws {
        var random = Sample.generator(5100)
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 8 << 20)
        try bench.fillExt(image, byteCount: 8 << 20, using: &random)
        let inside = try BlockDevice(opening: image).readBytes(at: 0, count: 8 << 20)
        let text = Fixture.text([Fixture.volume("guest", Fixture.linear([(1, 8)]))])
        var bytes = Fixture.bytes(text)
        let start = Int(extents(1..<9).lowerBound)
        bytes.replaceSubrange(start..<start + inside.count, with: inside)
        let (followed, map) = try VolumeIdentifier.survey(MemoryDisk(bytes))
        #expect(followed.inner?.first?.filesystem.kind == .ext4 && !map.covers(extents(1..<9)))
        bytes[start + 450] = 0x83
        bytes.setLittleEndian(2048 as UInt32, at: start + 454)
        bytes.setLittleEndian(8192 as UInt32, at: start + 458)
        bytes.setLittleEndian(0xAA55 as UInt16, at: start + 510)
        let (info, whole) = try VolumeIdentifier.survey(MemoryDisk(bytes))
        #expect(reasons(info) == ["vg/guest: it holds a partition table (MBR)"])
        #expect(whole.ranges == [0..<1 << 20, extents(1..<9)])
    }

    /// Two areas of one commit are equal; where one marks extents as free that the other assigns to a
    /// volume, neither is trusted.
    @Test func metadataAreasThatDifferAreNotBelieved() throws {
        func reason(_ second: String) throws -> String? {
            var bytes = Fixture.bytes(
                Fixture.text([Fixture.volume("root", Fixture.linear([(3, 2)]))], extentCount: 14))
            let area = 15 << 20
            bytes.setLittleEndian(UInt64(area), at: 632)
            bytes.setLittleEndian(UInt64(Fixture.area.count), at: 640)
            bytes.setLittleEndian(0 as UInt64, at: 648)
            var copy = Array(Fixture.bytes(second)[Fixture.area])
            copy.setLittleEndian(UInt64(area), at: 24)
            copy.setLittleEndian(LVMLabel.checksum(Array(copy[4..<512])), at: 0)
            bytes.replaceSubrange(area..<area + copy.count, with: copy)
            Fixture.mend(&bytes)
            return try VolumeIdentifier.survey(MemoryDisk(bytes)).0.wholeReason
        }
        func text(_ count: Int) -> String {
            Fixture.text([Fixture.volume("root", Fixture.linear([(3, count)]))], extentCount: 14)
        }
        #expect(try reason(text(2)) == nil)
        #expect(try reason(text(4)) == "its metadata areas contradict each other")
    }

    /// A volume that ends before its filesystem.
    @Test(.enabled(if: Tool.have("mke2fs", "debugfs"), "needs e2fsprogs"))
    func aVolumeThatIsShorterThanItsFilesystemIsNotBelieved() throws {
        var random = Sample.generator(5110)
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 8 << 20)
        try bench.fillExt(image, byteCount: 8 << 20, using: &random)
        let inside = try BlockDevice(opening: image).readBytes(at: 0, count: 8 << 20)
        for (count, expected) in [
            (8, nil), (7, "vg/data is shorter than the ext4 on it, whose end may be in space that counts as free"),
        ] {
            var bytes = Fixture.bytes(Fixture.text([Fixture.volume("data", Fixture.linear([(1, count)]))]))
            let start = Int(extents(1..<2).lowerBound)
            bytes.replaceSubrange(start..<start + inside.count, with: inside)
            let (info, map) = try VolumeIdentifier.survey(MemoryDisk(bytes))
            #expect(info.wholeReason == expected && info.inner?.count == 1)
            #expect((map == .whole(byteCount: UInt64(bytes.count))) == (expected != nil))
        }
    }

    @Test func whatServesOthersIsNotLookedInto() throws {
        let hidden = ["READ", "WRITE"]
        let text = Fixture.text([
            Fixture.volume("plain", Fixture.linear([(0, 1)])),
            Fixture.volume("origin", Fixture.linear([(1, 1)])),
            Fixture.volume("cow", Fixture.linear([(2, 1)])),
            Fixture.volume(
                "snapshot0",
                [
                    Fixture.segment(
                        0, 1, "type = \"snapshot\" chunk_size = 8 origin = \"origin\" cow_store = \"cow\"")
                ], status: hidden),
            Fixture.volume(
                "pool",
                [
                    Fixture.segment(
                        0, 2, "type = \"thin-pool\" metadata = \"pool_tmeta\" pool = \"pool_tdata\" chunk_size = 128")
                ]),
            Fixture.volume("pool_tdata", Fixture.linear([(4, 2)]), status: hidden),
            Fixture.volume("pool_tmeta", Fixture.linear([(6, 1)]), status: hidden),
            Fixture.volume(
                "thin",
                [
                    Fixture.segment(
                        0, 900, "type = \"thin\" thin_pool = \"pool\" transaction_id = 0 device_id = 1")
                ]),
            Fixture.volume(
                "mirrored",
                [
                    Fixture.segment(
                        0, 1,
                        "type = \"raid1\" device_count = 2 raids = [ \"m_rmeta_0\", \"m_rimage_0\", \"x\", \"y\" ]")
                ]),
            Fixture.volume("m_rmeta_0", Fixture.linear([(8, 1)]), status: hidden),
            Fixture.volume("m_rimage_0", Fixture.linear([(9, 1)]), status: hidden),
            Fixture.volume("away", Fixture.linear([(0, 5)], disk: "pv1")),
            Fixture.volume("odd", Fixture.linear([(12, 1)]), status: ["READ", "VISIBLE", "NOTSYNCED"]),
            Fixture.volume("cached", Fixture.linear([(13, 1)]), flags: ["CACHE_VOL"]),
        ])
        let (info, map) = try survey(text)
        #expect(info.mapSource == .allocationStructures)
        #expect(
            reasons(info) == [
                "vg/plain: nothing is recognised on it", "vg/origin: another logical volume depends on it",
                "vg/cow: another logical volume depends on it", "vg/pool: it is of type thin-pool",
                "vg/thin: it is of type thin", "vg/mirrored: it is of type raid1", "vg/away: it lies on other disks",
                "vg/odd: it is NOTSYNCED", "vg/cached: it is CACHE_VOL",
            ])
        #expect(
            map.ranges == [0..<4 << 20, extents(4..<7), extents(8..<10), extents(12..<14)])
    }

    /// With each of them, the whole disk counts.
    @Test func whatIsNotUnderstoodTakesTheWholeDisk() throws {
        func volume(_ rest: String) -> [String] { [Fixture.volume("root", [Fixture.segment(0, 2, rest)])] }
        let linear = Fixture.linear([(0, 2)])
        let cases: [(String, String)] = [
            (Fixture.text([], status: "\"READ\", \"PARTIAL\""), "its volume group vg is PARTIAL"),
            (Fixture.text([], status: "\"CLUSTERED\""), "its volume group vg is CLUSTERED"),
            (Fixture.text([], diskStatus: "\"MISSING\""), "its volume group vg calls it MISSING"),
            (
                Fixture.text([], group: "lock_type = \"sanlock\""),
                "its volume group vg is shared between machines (sanlock)"
            ),
            (Fixture.text([], extentCount: 16), "its volume group takes it for larger than it is"),
            (Fixture.text([], disk: "dev_size = 99999999"), "its volume group takes it for larger than it is"),
            (Fixture.text([], disk: "ba_start = 2048 ba_size = 8"), "its extents overlap its metadata"),
            (
                Fixture.text([Fixture.volume("root", linear, status: ["READ", "VISIBLE", "LOCKED"])]),
                "data of its volume group vg is being moved"
            ),
            (
                Fixture.text([Fixture.volume("a", linear), Fixture.volume("b", Fixture.linear([(1, 2)]))]),
                "two of its logical volumes share an extent"
            ),
            (Fixture.text([Fixture.volume("a", Fixture.linear([(14, 2)]))]), "a segment of vg/a lies outside its disk"),
            (Fixture.text(volume("type = \"novelty\"")), "vg/root is of type novelty, which is not known"),
            (
                Fixture.text([Fixture.volume("root", [Fixture.segment(1, 2, "type = \"error\"")])]),
                "the segments of vg/root leave gaps or overlap"
            ),
            (Fixture.text([], group: "seqno = 8"), "its metadata names seqno twice"),
            (Fixture.text([], group: "extent_count = [ 1, "), "its metadata text is not understood"),
            (Fixture.text([], group: "physical_volumes { }"), "its metadata names physical_volumes twice"),
            (Fixture.text([]) + "other { }", "its metadata describes 2 volume groups"),
            (Fixture.text([], group: String(repeating: "a {", count: 20)), "its metadata is nested too deep"),
            (Fixture.text([]).replacing("abcdef-ghij", with: "zzzzzz-ghij"), "its volume group vg does not name it"),
            (
                Fixture.text([]).replacing("version = 1", with: "version = 2"),
                "its metadata is of a form that is not known"
            ),
            (
                Fixture.text([]).replacing("extent_size = 2048", with: "extent_size = 9223372036854775807"),
                "the extent_size of vg is too large to be true"
            ),
        ]
        for (text, reason) in cases {
            let (info, map) = try survey(text)
            #expect(
                info.kind == .lvm && info.wholeReason?.hasPrefix(reason) == true, "\(reason): \(info.wholeReason ?? "")"
            )
            #expect(map == .whole(byteCount: 16 << 20))
        }
    }

    /// Reasons outside of the text.
    @Test func damagedAreasTakeTheWholeDisk() throws {
        let sound = Fixture.bytes(Fixture.text([]))
        let header = Fixture.area.lowerBound
        func expect(_ reason: String, _ change: (inout [UInt8]) -> Void) throws {
            var bytes = sound
            change(&bytes)
            let (info, map) = try VolumeIdentifier.survey(MemoryDisk(bytes))
            #expect(info.kind == .lvm && info.wholeReason == reason)
            #expect(map == .whole(byteCount: 16 << 20))
        }
        try expect("the checksum of its metadata text is wrong") { $0[header + 1024 + 100] ^= 1 }
        try expect("the checksum of a metadata area is not valid") { $0[header + 200] ^= 1 }
        try expect("its volume group is described on other disks only") {
            $0[header + 60] = 1
            Fixture.mend(&$0)
        }
        try expect("it belongs to no volume group") {
            $0.setLittleEndian(0 as UInt64, at: header + 40)
            $0.setLittleEndian(0 as UInt64, at: header + 48)
            Fixture.mend(&$0)
        }
        try expect("a change of its volume group was under way") {
            $0.setLittleEndian(8192 as UInt64, at: header + 64)
            $0.setLittleEndian(300 as UInt64, at: header + 72)
            Fixture.mend(&$0)
        }
        try expect("its volume group is described on other disks only") {
            $0.setLittleEndian(0 as UInt64, at: 616)
            $0.setLittleEndian(0 as UInt64, at: 624)
            Fixture.mend(&$0)
        }
        try expect("a metadata area lies outside it") {
            $0.setLittleEndian(16 << 20 as UInt64, at: 616)
            Fixture.mend(&$0)
        }
        try expect("it has more than one LVM label") {
            var label = Array($0[512..<1024])
            label.setLittleEndian(2 as UInt64, at: 8)
            $0.replaceSubrange(1024..<1536, with: label)
        }
    }

    /// A physical volume inside a physical volume, and so on: followed a few times, then taken whole.
    @Test func containersInsideContainersEnd() throws {
        var inside: [UInt8] = []
        var byteCount = 2 << 20
        for _ in 0..<7 {
            byteCount += 2 << 20
            let count = (byteCount >> 20) - 2
            let text = Fixture.text([Fixture.volume("in", Fixture.linear([(0, count)]))], extentCount: count)
            var bytes = Fixture.bytes(text, byteCount: byteCount)
            bytes.replaceSubrange(1 << 20..<(1 << 20) + inside.count, with: inside)
            inside = bytes
        }
        let (info, map) = try VolumeIdentifier.survey(MemoryDisk(inside))
        var depth = 0
        var next: FilesystemInfo? = info
        while let volume = next {
            depth += 1
            if volume.inner?.first == nil { #expect(volume.wholeReason == "it lies inside too many containers") }
            next = volume.inner?.first?.filesystem
        }
        #expect(depth == VolumeIdentifier.deepest + 2)
        #expect(map.usedByteCount == UInt64(byteCount))
    }

    /// Two thousand volumes are followed; a text without an end is not.
    @Test func manyVolumes() throws {
        let count = 2000
        let text = Fixture.text(
            (0..<count).map { Fixture.volume("volume\($0)", Fixture.linear([(2 * $0, 1)])) }, extentCount: 2 * count)
        let bytes = Fixture.bytes(text)
        var reader = PatchedReader(Array(bytes[..<(2 << 20)]))
        reader.byteCount = UInt64(2 * count + 2) << 20
        let (info, map) = try VolumeIdentifier.survey(reader)
        #expect(info.wholeReason == nil && info.inner?.count == count && map.ranges.count == count + 1)
        let endless = String(repeating: "a = [1, 2, \"b\"]\nb { c = 1 }\n", count: 30_000)
        let (large, _) = try survey(Fixture.text([], group: endless))
        #expect(large.wholeReason == "its metadata names a twice")
        let (wide, _) = try survey(Fixture.text([], group: "a = [" + String(repeating: "1,", count: 250_000) + "]"))
        #expect(wide.wholeReason == "its metadata text holds more than is followed")
    }
}
