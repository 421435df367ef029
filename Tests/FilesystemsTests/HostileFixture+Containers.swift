// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport

@testable import Filesystems

extension HostileFixture {
    static func makeNTFS() throws -> [UInt8] {
        let bench = try Workbench()
        let byteCount = 4 << 20
        let image = try NTFSRecipe(byteCount: UInt64(byteCount), clusterSize: 512).make(bench)
        try bench.write([UInt8](repeating: 0, count: 200_000), to: bench.path("file"))
        for name in ["hiberfil.sys", "pagefile.sys"] + (0..<40).map({ "some file with a long name \($0)" }) {
            try Tool.run(["ntfscp", "-f", "-q", image.string, bench.path("file").string, name])
            if name == "pagefile.sys" { try bench.write([1, 2, 3], to: bench.path("file")) }
        }
        return try BlockDevice(opening: image).readBytes(at: 0, count: byteCount)
    }

    /// Records keep their update sequences: patches rarely hit the two bytes in question.
    /// - Parameter windowsLog: with the log that Windows leaves; otherwise with that of Linux, for
    ///   which all records are read.
    static func ntfs(_ bytes: [UInt8], windowsLog: Bool) throws -> HostileFixture {
        let boot = try some(try NTFSBootSector(bytes), "NTFS")
        let table = try NTFSMasterFileTable(MemoryDisk(bytes), boot)
        func places(_ number: UInt64, _ type: NTFSAttribute.Kind, _ name: String = "") throws -> [Range<Int>] {
            try some(try table.stream(of: try table.record(number), type, name: name), "stream").ranges.map {
                Int($0.lowerBound)..<Int($0.upperBound)
            }
        }
        let log = try some(try places(2, .data).first, "log").lowerBound
        let records = (0..<40).map { number in
            let start = Int(boot.mftCluster * boot.clusterSize) + number * Int(boot.recordSize)
            return start..<start + 400
        }
        let index = try places(5, .indexAllocation, "$I30")
        guard !index.isEmpty else { throw ToolFailure(description: "no index") }
        let areas =
            records + [3..<90, 3..<90, log..<log + 80] + index + (try places(6, .data)) + [records[0], records[6]]
        guard windowsLog else { return HostileFixture(bytes, areas: records + areas) }
        var withLog = bytes
        let pages = restartPages()
        withLog.replaceSubrange(log..<log + pages.count, with: pages)
        return HostileFixture(withLog, areas: areas)
    }

    /// The start of the NTFS log as left by Windows.
    static func restartPages(
        major: UInt16 = 1, minor: UInt16 = 1, inUse: UInt16 = 0, flags: UInt16 = 2,
        sequenceNumbers: [UInt64] = [77, 77]
    ) -> [UInt8] {
        sequenceNumbers.flatMap { sequenceNumber in
            var page = [UInt8](repeating: 0, count: 4096)
            page.replaceSubrange(0..<4, with: Array("RSTR".utf8))
            page.setLittleEndian(UInt16(30), at: 4)  // usa_ofs
            page.setLittleEndian(UInt16(9), at: 6)  // usa_count
            page.setLittleEndian(UInt32(4096), at: 16)
            page.setLittleEndian(UInt32(4096), at: 20)
            page.setLittleEndian(UInt16(48), at: 24)  // restart_area_offset
            page.setLittleEndian(minor, at: 26)
            page.setLittleEndian(major, at: 28)
            page.setLittleEndian(sequenceNumber, at: 48)
            page.setLittleEndian(UInt16(1), at: 48 + 8)  // log_clients
            page.setLittleEndian(UInt16.max, at: 48 + 10)
            page.setLittleEndian(inUse, at: 48 + 12)
            page.setLittleEndian(flags, at: 48 + 14)
            page.setLittleEndian(UInt16(5), at: 30)
            for place in stride(from: 510, to: 4096, by: 512) { page.setLittleEndian(UInt16(5), at: place) }
            return page
        }
    }

    static func makeSwap() throws -> [UInt8] {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 1 << 20)
        try Tool.run(["mkswap", "-p", "4096", image.string])
        return try BlockDevice(opening: image).readBytes(at: 0, count: 1 << 20)
    }

    static func swap(_ bytes: [UInt8]) -> HostileFixture {
        HostileFixture(bytes, areas: [1024..<1100, 4080..<4096])
    }

    /// The place of the text of `lvm()`, and its digits.
    struct LVMText {
        var range: Range<Int>
        var digits: [Int]
    }

    static func lvm() -> (HostileFixture, LVMText) {
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
        let place = LVMText(
            range: start..<start + text.utf8.count,
            digits: (start..<start + text.utf8.count).filter { bytes[$0] >= 48 && bytes[$0] <= 57 })
        var fixture = HostileFixture(bytes, byteCount: 16 << 20, areas: [528..<672, 4096..<4192, place.range])
        fixture.mend = { reader in
            var head = try reader.current(0..<16384)
            LVMFixture.mend(&head)
            let header = LVMFixture.area.lowerBound
            for (place, count) in [(528, 4), (header, 4), (header + 56, 4)] {
                reader.patches.append((place, Array(head[place..<place + count])))
            }
        }
        return (fixture, place)
    }

    static func raid(version: String) -> HostileFixture {
        let made = RAIDFixture(version: version, byteCount: 2 << 20, length: 512 << 10)
        var bytes = [UInt8](repeating: 0, count: made.byteCount)
        let place = made.place
        bytes.replaceSubrange(place..<place + 4096, with: made.superblock)
        let areas = [place..<place + 256, place + 128..<place + 264, place + 3968..<place + 3988]
        var fixture = HostileFixture(bytes, areas: version == "0.90" ? [areas[0], areas[2]] : Array(areas[..<2]))
        fixture.mend = { reader in
            // A superblock at the end is found nowhere else.
            if version != "1.2" { reader.byteCount = UInt64(made.byteCount) }
            var superblock = try reader.current(place..<place + 4096)
            made.mend(&superblock)
            let sum = version == "0.90" ? 4 * 38 : 216
            reader.patches.append((place + sum, Array(superblock[sum..<sum + 4])))
        }
        return fixture
    }

    static func makeLUKS(version: Int) throws -> [UInt8] {
        let bench = try Workbench()
        try bench.formatLUKS(version)
        return try BlockDevice(opening: bench.path("image")).readBytes(at: 0, count: 1 << 20)
    }

    static func luks(_ bytes: [UInt8]) -> HostileFixture {
        HostileFixture(bytes, areas: [0..<512, 0..<16, 4096..<5120, 16384..<16896])
    }

    static func makeF2FS() throws -> [UInt8] {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 64 << 20)
        try Tool.run(["mkfs.f2fs", "-q", image.string])
        let disk = try BlockDevice(opening: image)
        let superblock = try some(try F2FSSuperblock(try disk.readBytes(at: 1024, count: 3072)), "F2FS")
        return try disk.readBytes(at: 0, count: Int(superblock.main + 4096) * 4096)
    }

    /// Its root reserves two blocks, so that nodes are read too.
    static func f2fs(_ bytes: [UInt8]) throws -> HostileFixture {
        var bytes = bytes
        var disk = PatchedReader(bytes)
        disk.byteCount = 64 << 20
        let superblock = try some(try F2FSSuperblock(try disk.readBytes(at: 1024, count: 3072)), "F2FS")
        let live = try F2FSCheckpoint.live(disk, superblock)
        let heads = [Int(live.start) * 4096, Int(live.start + live.blockCount - 1) * 4096]
        let summary = Int(live.start + live.summaryStart) * 4096
        let root = Int(superblock.main + live.nodeLogs[0].segment * F2FSSuperblock.segmentBlockCount) * 4096
        bytes.setLittleEndian(UInt64.max, at: root + 360 + 5 * 4)
        for head in heads {
            bytes.setLittleEndian(live.validBlockCount + 2, at: head + 16)
            bytes.setLittleEndian(F2FSCheckpoint.checksum(Array(bytes[head..<head + 4092])), at: head + 4092)
        }
        var fixture = HostileFixture(
            bytes, byteCount: disk.byteCount,
            areas: [
                1024..<1132, heads[0]..<heads[0] + 200, summary + 507..<summary + 1014,
                Int(superblock.areas[1]) * 4096..<Int(superblock.areas[1]) * 4096 + 400, root..<root + 400,
                root + 4052..<root + 4096,
            ])
        fixture.mend = { reader in
            // The second superblock as the first, and both blocks of the pack as its head.
            reader.patches.append((5120, try reader.current(1024..<1024 + 200)))
            var head = try reader.current(heads[0]..<heads[0] + 4096)
            head.setLittleEndian(F2FSCheckpoint.checksum(Array(head[..<4092])), at: 4092)
            for place in heads {
                reader.patches.append((place, Array(head[..<200])))
                reader.patches.append((place + 4092, Array(head[4092...])))
            }
        }
        return fixture
    }

    /// - Parameter last: whether the backup's header is repaired; otherwise the primary's.
    static func gpt(sectorSize: Int, last: Bool = false) throws -> HostileFixture {
        let made = GPTFixture(
            sectorSize: sectorSize, sectorCount: 256, entryCount: 16, partitions: [(40, 63), (64, 127)])
        let bytes = try made.bytes()
        let end = bytes.count - sectorSize
        var fixture = HostileFixture(
            bytes,
            areas: [0..<512, sectorSize..<sectorSize + 92, 2 * sectorSize..<2 * sectorSize + 512, end..<end + 92]
        )
        fixture.logicalSectorSize = sectorSize
        fixture.mend = { reader in
            var changed = try reader.current(0..<bytes.count)
            made.fixCopy(&changed, at: last ? end : sectorSize)
            let length = reader.byteCount
            reader = PatchedReader(changed, logicalSectorSize: sectorSize)
            reader.byteCount = length
        }
        return fixture
    }
}

extension Workbench {
    /// A LUKS of 32 MiB as `image`, with its password in `key`.
    func formatLUKS(_ version: Int, _ others: [String] = []) throws {
        let image = try sparseFile("image", byteCount: 32 << 20)
        try write(Array("secret".utf8), to: path("key"))
        try Tool.run(
            [
                "cryptsetup", "luksFormat", "-q", "--type", "luks\(version)", "--pbkdf", "pbkdf2",
                "--pbkdf-force-iterations", "1000", "--cipher", "aes-xts-plain64", "--key-file", path("key").string,
            ] + others + [image.string])
    }
}
