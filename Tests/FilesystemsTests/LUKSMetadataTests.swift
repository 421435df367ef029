// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// The sectors according to LUKS headers, and their used part once they are opened.
@Suite(.enabled(if: Tool.have("cryptsetup", "mke2fs"), "needs cryptsetup and e2fsprogs"))
struct LUKSMetadataTests {
    private func header(_ bench: Workbench) throws -> Container {
        let volume = try BlockDevice(opening: bench.path("image"))
        return try #require(try LUKSHeader.open(volume))
    }

    /// The JSON text of a LUKS2 header with one part of it replaced.
    private func replace(_ old: String, by new: String, _ bench: Workbench) throws -> Container {
        let volume = try BlockDevice(opening: bench.path("image"))
        let bytes = try volume.readBytes(at: 0, count: 16 << 10)
        let text = String(decoding: bytes[4096...].prefix { $0 != 0 }, as: UTF8.self)
        let parts = text.split(separator: old, maxSplits: 1, omittingEmptySubsequences: false)
        try #require(parts.count == 2, "\(old) is not in \(text)")
        // Behind the text: zeros.
        var reader = PatchedReader(Array(bytes[..<4096]) + [UInt8](repeating: 0, count: bytes.count - 4096))
        reader.patches = [(4096, Array((parts[0] + new + parts[1]).utf8))]
        reader.byteCount = volume.byteCount
        return try #require(try LUKSHeader.open(reader))
    }

    @Test func plainOnes() throws {
        let bench = try Workbench()
        try bench.formatLUKS(1)
        var container = try header(bench)
        #expect(container.locked?.sectorSize == 512 && container.locked?.byteCount == nil)
        #expect(container.filesystem.byteCount == 32 << 20 && container.filesystem.resizeAbility.canGrow)
        #expect(container.filesystem.resizeAbility.shrinkObstacle?.contains("captured without its key") == true)
        for sectorSize in [512, 4096] {
            try bench.formatLUKS(2, ["--sector-size", "\(sectorSize)"])
            container = try header(bench)
            #expect(container.locked?.start == 16 << 20 && container.locked?.sectorSize == sectorSize)
            #expect(container.filesystem.sectorSize == sectorSize && container.filesystem.byteCount == 32 << 20)
        }
        // The whole volume, because there is no key.
        #expect(try bench.survey("image").1 == .whole(byteCount: 32 << 20))
    }

    /// cryptsetup's own header during the work: LUKS2 has it in its requirements, LUKS1 has another magic.
    @Test func aReencryptionIsNotLookedInto() throws {
        let bench = try Workbench()
        try bench.formatLUKS(2)
        try Tool.run(
            [
                "cryptsetup", "reencrypt", "-q", "--init-only", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000",
                "--key-file", bench.path("key").string, bench.path("image").string,
            ])
        var container = try header(bench)
        #expect(container.locked == nil && container.filesystem.byteCount == nil)
        #expect(container.filesystem.wholeReason == "it is encrypted (LUKS2), and it is being reencrypted")
        #expect(!container.filesystem.resizeAbility.canGrow)
        try bench.formatLUKS(1)
        let file = try FileDescriptor.open(bench.path("image"), .readWrite)
        _ = try file.writeAll(toAbsoluteOffset: 4, [0xDE, 0xAD])
        try file.close()
        container = try header(bench)
        #expect(container.locked == nil)
        #expect(container.filesystem.wholeReason == "it is encrypted (LUKS1), and it is being reencrypted")
        #expect(try bench.survey("image").1 == .whole(byteCount: 32 << 20))
    }

    @Test func whatIsSpecialIsNotLookedInto() throws {
        let bench = try Workbench()
        try bench.formatLUKS(2, ["--sector-size", "512"])
        let sector = "\"sector_size\":512"
        for (old, new, reason) in [
            (
                sector, sector + ",\"integrity\":{\"type\":\"hmac(sha256)\"}",
                "it keeps checksums of its sectors (dm-integrity)"
            ),
            (sector, sector + ",\"flags\":[\"backup-final\"]", "its segment is of an unknown kind (crypt)"),
            ("\"type\":\"crypt\"", "\"type\":\"linear\"", "its segment is of an unknown kind (linear)"),
            (
                "\"segments\":{", "\"segments\":{\"1\":{\"type\":\"crypt\",\"offset\":\"0\",\"size\":\"1\"},",
                "its sectors lie in several segments"
            ),
            (
                "\"config\":{", "\"config\":{\"requirements\":{\"mandatory\":[\"novelty\"]},",
                "it needs something that is not known here (novelty)"
            ),
            (sector, "\"sector_size\":513", "its header makes no sense"),
            (
                "\"offset\":\"16777216\",\"size\"", "\"offset\":\"18446744073709551104\",\"size\"",
                "its header makes no sense"
            ),
            ("\"offset\":\"16777216\",\"size\"", "\"offset\":\"0\",\"size\"", "its header is meant for another volume"),
            ("\"size\":\"dynamic\"", "\"size\":\"18446744073709551104\"", "its header makes no sense"),
            ("\"size\":\"dynamic\"", "\"size\":\"much\"", "its metadata are not understood"),
            ("\"segments\"", "\"segmente\"", "its metadata are not understood"),
        ] {
            let container = try replace(old, by: new, bench)
            #expect(container.locked == nil, "\(reason)")
            #expect(container.filesystem.wholeReason == "it is encrypted (LUKS2), and \(reason)")
            #expect(container.filesystem.byteCount == nil && !container.filesystem.resizeAbility.canGrow)
        }
        // A volume with its own length can be opened, and does not grow.
        let fixed = try replace("\"size\":\"dynamic\"", by: "\"size\":\"1048576\"", bench)
        #expect(fixed.locked?.byteCount == 1 << 20 && fixed.filesystem.byteCount == nil)
        #expect(!fixed.filesystem.resizeAbility.canGrow)
    }

    /// The used blocks of the content, each at its place and widened to encrypted sectors, and the space before and
    /// behind them; nothing else.
    @Test(arguments: [512, 4096]) func theMapOfWhatIsInside(sectorSize: Int) throws {
        let bench = try Workbench()
        try bench.formatLUKS(2, ["--sector-size", "\(sectorSize)"])
        let length: UInt64 = 12 << 20
        try bench.sparseFile("plain", byteCount: length)
        try Tool.run(["mke2fs", "-q", "-t", "ext4", "-b", "1024", bench.path("plain").string])
        let plain = try BlockDevice(opening: bench.path("plain"))
        let (inside, map) = try VolumeIdentifier.survey(plain)
        #expect(inside.kind == .ext4 && map.usedByteCount < length / 2)
        let volume = try BlockDevice(opening: bench.path("image"))
        let locked = try header(bench)
        let data = try #require(locked.locked)
        let container = locked.opened(plain, descriptor: nil, data, volumeByteCount: volume.byteCount)
        var left = 16
        let (info, used) = VolumeIdentifier.contents(of: container, volume, nil, depth: 0, volumesLeft: &left, nil)
        #expect(info.mapSource == .allocationStructures && info.wholeReason == nil)
        #expect(info.inner?.count == 1 && info.inner?.first?.filesystem == inside)
        var expected = AllocationMap(byteCount: volume.byteCount)
        expected.insert(0..<16 << 20)
        let unit = UInt64(sectorSize)
        for range in map.ranges {
            let start = range.lowerBound / unit * unit
            expected.insert((16 << 20) + start..<(16 << 20) + (range.upperBound + unit - 1) / unit * unit)
        }
        expected.insert((16 << 20) + length..<volume.byteCount)
        #expect(used == expected)
        #expect(used.ranges.allSatisfy { $0.lowerBound % unit == 0 && $0.upperBound % unit == 0 })
        #expect(used.usedByteCount < volume.byteCount - length / 2)
    }

    /// Whatever the header says: the whole volume is used until a key has opened it, and the place
    /// of its sectors is inside.
    @Test func hostileHeaders() throws {
        let bench = try Workbench()
        try bench.formatLUKS(2, ["--sector-size", "4096"])
        let volume = try BlockDevice(opening: bench.path("image"))
        let bytes = try volume.readBytes(at: 0, count: 16 << 10)
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let end = 4096 + bytes[4096...].prefix { $0 != 0 }.count
        let digits = Array("0123456789\"{}[],:-e.".utf8)
        var opened = 0
        for _ in 0..<600 {
            var changed = bytes
            for _ in 0...Int.random(in: 0...2, using: &random) {
                let inText = Bool.random(using: &random)
                let place =
                    inText ? Int.random(in: 4096..<end, using: &random) : Int.random(in: 6..<512, using: &random)
                changed[place] =
                    inText ? digits.randomElement(using: &random) ?? 0 : UInt8.random(in: 0...255, using: &random)
            }
            var reader = PatchedReader(changed)
            reader.byteCount = UInt64.random(in: 4 << 20...20 << 20, using: &random)
            let (_, map) = try VolumeIdentifier.survey(reader)
            #expect(map == .whole(byteCount: reader.byteCount), "seed \(seed)")
            guard let data = try LUKSHeader.open(reader)?.locked else { continue }
            opened += 1
            #expect(data.start < data.end(in: reader.byteCount) && data.end(in: reader.byteCount) <= reader.byteCount)
        }
        #expect(opened > 30, "seed \(seed)")
        // A text without an end, and one with endless nesting.
        for text in ["{\"segments\":" + String(repeating: "[", count: 200_000), String(repeating: " ", count: 1 << 20)]
        {
            // Behind the text: zeros.
            var reader = PatchedReader(Array(bytes[..<4096]) + [UInt8](repeating: 0, count: bytes.count - 4096))
            reader.patches = [(8, [0, 0, 0, 0, 0, 0x40, 0, 0]), (4096, Array(text.utf8))]
            reader.byteCount = 32 << 20
            #expect(
                try LUKSHeader.open(reader)?.filesystem.wholeReason
                    == "it is encrypted (LUKS2), and its metadata are not understood")
        }
    }

    /// On a machine without device-mapper a key is useless, and that is reported.
    @Test(.enabled(if: OpenedLUKS.obstacle() != nil, "needs a machine that opens no LUKS"))
    func withoutDeviceMapper() throws {
        let bench = try Workbench()
        try bench.formatLUKS(2)
        let disk = try BlockDevice(opening: bench.path("image"))
        let unlocker = LUKSUnlocker(keyFiles: [bench.path("key")])
        let (info, map) = try VolumeIdentifier.survey(
            disk, secondOpinion: SecondOpinion(descriptor: disk.fileDescriptor.rawValue), unlocker: unlocker)
        #expect(map == .whole(byteCount: disk.byteCount) && info.inner == nil)
        #expect(unlocker.hasFound && !unlocker.hasOpened && unlocker.problem == OpenedLUKS.obstacle())
    }
}
