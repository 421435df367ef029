// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import TestSupport
import Testing

@testable import Filesystems

extension HostileTests {
    /// Numbers and words of the text are changed, as are the label and the header of the area; all checksums are right.
    @Test func lvm() throws {
        let hidden = ["READ", "WRITE"]
        let text = LVMFixture.text([
            LVMFixture.volume("root", LVMFixture.linear([(3, 2), (0, 2)])),
            LVMFixture.volume("swap", LVMFixture.linear([(6, 1)])),
            LVMFixture.volume(
                "striped",
                [
                    LVMFixture.segment(
                        0, 4,
                        "type = \"striped\" stripe_count = 2 stripe_size = 128 stripes = [ \"pv0\", 8, \"pv1\", 5 ]")
                ]),
            LVMFixture.volume("pool_tdata", LVMFixture.linear([(10, 2)]), status: hidden),
            LVMFixture.volume(
                "pool", [LVMFixture.segment(0, 2, "type = \"thin-pool\" pool = \"pool_tdata\" transaction_id = 1")]),
        ])
        let bytes = Array(LVMFixture.bytes(text)[..<(2 << 20)])
        let start = LVMFixture.area.lowerBound + 1024
        let digits = (start..<start + text.utf8.count).filter { bytes[$0] >= 48 && bytes[$0] <= 57 }
        let areas = [528..<672, 4096..<4192, start..<start + text.utf8.count]
        try attack(
            "LVM", bytes, count: 1500, areas: areas, number: 5300,
            mend: { reader, random in
                if reader.byteCount < 1 << 40 { reader.byteCount = 16 << 20 }
                // Most of the time a text that can still be read.
                if Int.random(in: 0..<8, using: &random) > 0 { reader.patches.removeAll() }
                for _ in 0..<Int.random(in: 0...3, using: &random) {
                    let place = digits.randomElement(using: &random) ?? start
                    reader.patches.append((place, [UInt8.random(in: 48...57, using: &random)]))
                }
                var head = try reader.current(0..<16384)
                LVMFixture.mend(&head)
                let header = LVMFixture.area.lowerBound
                for (place, count) in [(528, 4), (header, 4), (header + 56, 4)] {
                    reader.patches.append((place, Array(head[place..<place + count])))
                }
            })
    }

    @Test(arguments: ["0.90", "1.0", "1.2"]) func raid(version: String) throws {
        let fixture = RAIDFixture(version: version, byteCount: 2 << 20, length: 512 << 10)
        var bytes = [UInt8](repeating: 0, count: fixture.byteCount)
        let place = fixture.place
        bytes.replaceSubrange(place..<place + 4096, with: fixture.superblock)
        let areas = [place..<place + 256, place + 128..<place + 264, place + 3968..<place + 3988]
        try attack(
            "md \(version)", bytes, count: 700, areas: version == "0.90" ? [areas[0], areas[2]] : Array(areas[..<2]),
            number: 5400,
            mend: { reader, _ in
                // One at the end is found nowhere else.
                if version != "1.2" { reader.byteCount = UInt64(fixture.byteCount) }
                var superblock = try reader.current(place..<place + 4096)
                fixture.mend(&superblock)
                let sum = version == "0.90" ? 4 * 38 : 216
                reader.patches.append((place + sum, Array(superblock[sum..<sum + 4])))
            })
    }

    @Test(.enabled(if: Tool.have("cryptsetup"), "needs cryptsetup"), arguments: [1, 2]) func luks(version: Int) throws {
        let bench = try Workbench()
        try LUKSTests.format(bench, version)
        let bytes = try BlockDevice(opening: bench.path("image")).readBytes(at: 0, count: 1 << 20)
        try attack(
            "LUKS\(version)", bytes, count: 500, areas: [0..<512, 0..<16, 4096..<5120, 16384..<16896], number: 5500)
    }

    @Test(.enabled(if: Tool.have("mkfs.f2fs"), "needs f2fs-tools")) func f2fs() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 64 << 20)
        try Tool.run(["mkfs.f2fs", "-q", image.string])
        let disk = try BlockDevice(opening: image)
        let superblock = try #require(try F2FSSuperblock(try disk.readBytes(at: 1024, count: 3072)))
        let live = try F2FSCheckpoint.live(disk, superblock)
        let bytes = try disk.readBytes(at: 0, count: Int(superblock.main + 4096) * 4096)
        let heads = [Int(live.start) * 4096, Int(live.start + live.blockCount - 1) * 4096]
        let summary = Int(live.start + live.summaryStart) * 4096
        let areas = [
            1024..<1132, heads[0]..<heads[0] + 200, summary + 507..<summary + 1014,
            Int(superblock.areas[1]) * 4096..<Int(superblock.areas[1]) * 4096 + 400,
        ]
        try attack(
            "F2FS", bytes, count: 1000, areas: areas, number: 5600,
            mend: { reader, random in
                reader.byteCount = max(reader.byteCount, 64 << 20)
                // The second superblock as the first, and both blocks of the pack as its head.
                reader.patches.append((5120, try reader.current(1024..<1024 + 200)))
                var head = try reader.current(heads[0]..<heads[0] + 4096)
                head.setLittleEndian(F2FSCheckpoint.checksum(Array(head[..<4092])), at: 4092)
                for place in heads {
                    reader.patches.append((place, Array(head[..<200])))
                    reader.patches.append((place + 4092, Array(head[4092...])))
                }
            })
    }
}
