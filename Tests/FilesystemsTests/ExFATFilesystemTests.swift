// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

@Suite(.enabled(if: Tool.have("mkfs.exfat", "fsck.exfat"), "needs exfatprogs")) struct ExFATFilesystemTests {
    static let cases = Array(0..<(Sample.isFull ? 40 : 6))

    /// An exFAT in a file. (mkfs.exfat accepts no boundary larger than its volume.)
    private static func make(
        _ bench: Workbench, byteCount: UInt64, clusterByteCount: Int = 4096, label: String = "STICK"
    ) throws -> FilePath {
        let image = try bench.sparseFile("image", byteCount: byteCount)
        try Tool.run(["mkfs.exfat", "-c", "\(clusterByteCount)", "-b", "128K", "-L", label, image.string])
        return image
    }

    /// A random exFAT with a random tree, partly deleted again: Reforge's map is as large as the driver's, and after
    /// all other bytes are overwritten, fsck.exfat finds no errors and the files are equal.
    @Test(
        .enabled(
            if: SystemFacts.isRoot && Files.exists("/dev/fuse") && Tool.have("mount.exfat-fuse", "umount", "losetup"),
            "needs root, /dev/fuse and exfat-fuse"), arguments: cases)
    func mapIsWhatTheDriverSays(index: Int) throws {
        var random = Sample.generator(7000 + index)
        let bench = try Workbench()
        let clusterByteCount = [512, 4096, 32768][index % 3]
        let byteCount = UInt64(Int.random(in: 8000...120_000, using: &random)) * UInt64(index % 2 == 0 ? 512 : 4096)
        let image = try Self.make(
            bench, byteCount: byteCount, clusterByteCount: clusterByteCount, label: "VOL \(index)")
        let comment: Comment = "seed \(Sample.seed), case \(index): \(byteCount) bytes, clusters of \(clusterByteCount)"
        let place = bench.path("mounted")
        try Files.makeFolders(place)
        // The driver requires a block device.
        let loop = try Tool.run(["losetup", "--find", "--show", image.string]).split(separator: "\n").joined()
        defer { _ = try? Tool.run(["losetup", "-d", loop]) }
        try Tool.run(["mount.exfat-fuse", loop, place.string])
        var isMounted = true
        defer { if isMounted { _ = try? Tool.run(["umount", "-l", place.string]) } }
        var files = try bench.randomTree("mounted", files: 60, maximumByteCount: 60_000, using: &random)
        for name in files.keys.sorted() where Bool.random(using: &random) {
            try Files.remove(place.appending(name))
            files[name] = nil
        }
        // Free blocks and their size according to the driver: mounted once more, because FUSE closes files
        // asynchronously, and some were removed by then.
        try Tool.run(["umount", place.string])
        try Tool.run(["mount.exfat-fuse", "-o", "ro", loop, place.string])
        let numbers = try Tool.run(["stat", "-f", "-c", "%f %S", place.string]).split { $0 == " " || $0 == "\n" }
            .compactMap { UInt64($0) }
        try Tool.run(["umount", place.string])
        isMounted = false

        try Tool.run(["blockdev", "--flushbufs", loop])
        let (info, map) = try bench.survey("image")
        #expect(info.kind == .exfat && info.isClean == true, comment)
        #expect(info.mapSource == .allocationStructures && info.wholeReason == nil, comment)
        #expect(info.label == "VOL \(index)", comment)
        #expect(try bench.opinion("image") == .found(kindName: "exfat", uuid: info.uuid, label: info.label), comment)
        let boot = try #require(
            try ExFATBootSector(try BlockDevice(opening: image).readBytes(at: 0, count: 512)), comment)
        let heap = boot.heapByteOffset..<boot.offset(ofCluster: boot.clusterEnd)
        let ours = map.ranges(in: heap).reduce(0) { $0 + $1.byteCount }
        #expect(numbers.count == 2 && ours == heap.byteCount - numbers[0] * numbers[1], comment)
        #expect(map.covers(0..<heap.lowerBound), comment)

        try spoilUnused(FilePath(loop), map)
        let check = try ChildProcess.run(["fsck.exfat", "-n", image.string])
        #expect(check.succeeded, "\(comment): \(check.text)")
        try Tool.run(["mount.exfat-fuse", "-o", "ro", loop, place.string])
        isMounted = true
        for (name, bytes) in files { #expect(try Files.read(place.appending(name)) == bytes, "\(comment): \(name)") }
    }

    /// The bytes of a valid one.
    private static func sound(_ bench: Workbench) throws -> [UInt8] {
        let byteCount: UInt64 = 16 << 20
        let image = try make(bench, byteCount: byteCount)
        return try BlockDevice(opening: image).readBytes(at: 0, count: Int(byteCount))
    }

    @Test func whatSpeaksAgainstAMapIsSaid() throws {
        let bench = try Workbench()
        let bytes = try Self.sound(bench)
        let boot = try #require(try ExFATBootSector(Array(bytes[..<512])))
        func reason(_ change: (inout [UInt8]) -> Void) throws -> String? {
            var changed = bytes
            change(&changed)
            return try VolumeIdentifier.survey(MemoryDisk(changed)).0.wholeReason
        }
        #expect(try reason { _ in } == nil)
        // VolumeFlags are not part of the checksum: a mount marks it this way.
        #expect(try reason { $0[106] |= 2 } == "it was not cleanly unmounted")
        #expect(try reason { $0[106] |= 4 } == "it is marked as having disk errors")
        #expect(try reason { $0[100] ^= 1 } == "the checksum of its boot region is wrong")
        #expect(
            try reason {
                $0[110] = 2
                HostileFixture.mendExFAT(&$0)
            } == "it has two FATs")
        #expect(
            try reason {
                $0[105] = 2
                HostileFixture.mendExFAT(&$0)
            } == "its revision 2 is not known")
        let root = Int(boot.offset(ofCluster: UInt64(boot.rootCluster)))
        let entry = try #require((0..<16).map { root + 32 * $0 }.first { bytes[$0] == 0x81 })
        #expect(try reason { $0[entry] = 0x01 } == "its root folder has 0 allocation bitmaps")
        let bitmap = Int(boot.offset(ofCluster: UInt64(try bytes.littleEndian(UInt32.self, at: entry + 20))))
        #expect(try reason { $0[bitmap] &= 0xFE } == "its allocation bitmap calls free what it uses itself")
        // A circular chain.
        let link = Int(boot.fatByteOffset) + 4 * Int(boot.rootCluster)
        #expect(
            try reason {
                $0.replaceSubrange(link..<link + 4, with: [UInt8(boot.rootCluster), 0, 0, 0])
            }?.hasPrefix("a chain of more than") == true)
        #expect(
            try VolumeIdentifier.survey(MemoryDisk(Array(bytes[..<(8 << 20)]))).0.wholeReason
                == "it is larger than its partition")
    }
}
