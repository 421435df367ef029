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
        if: Tool.have("mkfs.fat", "mcopy", "mdel", "mdir", "mattrib", "fsck.fat"), "needs dosfstools and mtools"))
struct FATRemakeTests {
    static let cases = Array(0..<(Sample.isFull ? 60 : 9))

    private struct Case {
        var bits: Int
        var from: Int
        var to: Int
        var byteCount: UInt64
        var newByteCount: UInt64
    }

    private static func random(_ index: Int, _ random: inout SeededGenerator) -> Case {
        let from = index % 2 == 0 ? 512 : 4096
        let to = 4608 - from
        let bits = [32, 16, 12][index / 2 % 3]
        let mebibytes =
            switch (bits, from) {
            case (12, _): UInt64.random(in: 2...7, using: &random)
            case (16, 512): UInt64.random(in: 12...120, using: &random)
            case (16, _): UInt64.random(in: 20...200, using: &random)
            // As FAT32 both ways, or as FAT16 where there is no room for it.
            case (_, 512): [UInt64.random(in: 40...200, using: &random), 300][index / 6 % 2]
            default: UInt64.random(in: 270...300, using: &random)
            }
        let byteCount = mebibytes << 20
        return Case(
            bits: bits, from: from, to: to, byteCount: byteCount,
            newByteCount: byteCount + UInt64.random(in: 0...8, using: &random) << 20)
    }

    /// A random FAT with a random tree, recreated with the other sector size: mtools lists and reads the
    /// same files with the same times and attributes, fsck.fat finds no errors, and libblkid finds the
    /// same label and serial number.
    @Test(arguments: cases) func everyFileIsThere(index: Int) throws {
        var random = Sample.generator(77_000 + index)
        let made = Self.random(index, &random)
        let comment: Comment = "seed \(Sample.seed), case \(index): \(made)"
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: made.byteCount)
        try Tool.run(
            [
                "mkfs.fat", "-F", "\(made.bits)", "-S", "\(made.from)", "-n", "VOL \(index)", "-i",
                "5EED\(1000 + index)", "-h", "2048",
            ] + (made.from == 4096 ? ["-s", "1"] : []) + [image.string])
        let files = try bench.randomTree("tree", files: 60, maximumByteCount: 40_000, using: &random)
        let roots = Files.names(in: bench.path("tree")).map { bench.path("tree").appending($0).string }
        try Tool.run(["mcopy", "-s", "-Q", "-m", "-i", image.string] + roots + ["::/"])
        var kept = files
        for name in files.keys.sorted() where Int.random(in: 0..<3, using: &random) == 0 {
            try Tool.run(["mdel", "-i", image.string, "::/\(name)"])
            kept[name] = nil
        }
        if let name = kept.keys.sorted().first {
            try Tool.run(["mattrib", "-i", image.string, "+r", "+h", "+s", "::/\(name)"])
        }
        let layout = try #require(
            FATLayout(
                volumeByteCount: made.newByteCount, sectorSize: made.to,
                preferring: [12: .fat12, 16: .fat16, 32: .fat32][made.bits] ?? .fat32), comment)
        // Rubbish where nothing is written: all relevant bytes must be written.
        let target = try bench.sparseFile("new", byteCount: made.newByteCount)
        let disk = try BlockDevice(opening: target, .exclusiveWrite, sectorSize: made.to)
        let noise = [UInt8](repeating: 0xDB, count: 1 << 20)
        for start in stride(from: 0, to: min(made.newByteCount, 24 << 20), by: 1 << 20) {
            try disk.writeBytes(noise, at: start)
        }
        let source = try FATVolume(try BlockDevice(opening: image, sectorSize: made.from))
        let remake = try FATRemake(of: source, layout: layout, hiddenSectors: 256)
        try remake.run {
            #expect($0.count % made.to == 0 && $1 % UInt64(made.to) == 0, comment)
            try disk.writeBytes($0, at: $1)
        } zero: {
            try disk.writeZeros($0)
        }
        try disk.flush()
        #expect(try remake.isThere(try FATVolume(disk)), comment)

        let check = try ChildProcess.run(["fsck.fat", "-n", "-v", target.string])
        #expect(check.succeeded && !check.text.contains("differ"), "\(comment): \(check.text)")
        let boot = try #require(try FATBootSector(try disk.readBytes(at: 0, count: 512)))
        #expect(boot.sectorSize == UInt64(made.to) && boot.kind == layout.kind, comment)
        #expect(boot.clusterCount == layout.clusterCount, comment)
        #expect(try disk.readBytes(at: 28, count: 4) == [0, 1, 0, 0], comment)
        let (before, after) = (try bench.opinion("image"), try bench.opinion("new"))
        #expect(before == after, comment)
        let (info, _) = try bench.survey("new", sectorSize: made.to)
        #expect(info.mapSource == .allocationStructures && info.sectorSize == made.to, comment)
        #expect(try listing(image) == listing(target), comment)
        try Files.makeFolders(bench.path("out"))
        if !kept.isEmpty || !roots.isEmpty {
            try Tool.run(["mcopy", "-s", "-n", "-i", target.string, "::*", bench.path("out").string])
        }
        for (name, bytes) in kept {
            #expect(try Self.bytes(bench.path("out").appending(name)) == bytes, "\(comment): \(name)")
        }
        // With one changed bit in a file's contents, it differs.
        if let (name, bytes) = kept.first(where: { $0.value.count > 100 }) {
            let item = try #require(
                (0..<Int(layout.clusterCount)).lazy.map { layout.offset(ofCluster: UInt64($0) + 2) }.first {
                    (try? disk.readBytes(at: $0, count: 64)) == Array(bytes.prefix(64))
                }, "\(comment): \(name)")
            try disk.writeBytes([try disk.readBytes(at: item, count: 1)[0] ^ 1], at: item)
            #expect(try !remake.isThere(try FATVolume(disk)), comment)
        }
    }

    private static func bytes(_ path: FilePath) throws -> [UInt8] {
        let file = try BlockDevice(opening: path)
        return try file.readBytes(at: 0, count: Int(file.byteCount))
    }

    /// Names, sizes, times and attributes of all entries, as listed by mtools.
    private func listing(_ image: FilePath) throws -> String {
        let text =
            try Tool.run(["mdir", "-/", "-a", "-i", image.string, "::"])
            + Tool.run(["mattrib", "-/", "-i", image.string, "::*"])
        return text.split(separator: "\n").filter { !$0.contains("bytes free") }.joined(separator: "\n")
    }

    /// A source that does not fit or is invalid is reported before any write.
    @Test func whatCannotBeMadeIsAnError() throws {
        let bench = try Workbench()
        let image = try bench.systemPartition(bits: 16)
        var bytes = try BlockDevice(opening: image).readBytes(at: 0, count: 40 << 20)
        let volume = try FATVolume(MemoryDisk(bytes))
        // 16 clusters for a tree of 7 and more.
        let small = try #require(FATLayout(volumeByteCount: 200 << 10, sectorSize: 4096, preferring: .fat16))
        _ = try FATRemake(of: volume, layout: small, hiddenSectors: 0)
        #expect(FATLayout(volumeByteCount: 100 << 10, sectorSize: 4096, preferring: .fat16) == nil)
        #expect(FATLayout(volumeByteCount: 100 << 20, sectorSize: 520, preferring: .fat16) == nil)
        // A folder that contains itself.
        let boot = try #require(try FATBootSector(bytes))
        let efi = Int(boot.rootFolderOffset) + 32
        let cluster = try bytes.littleEndian(UInt16.self, at: efi + 26)
        let folder = Int(boot.offset(ofCluster: UInt64(cluster)))
        bytes.setLittleEndian(cluster, at: folder + 64 + 26)
        #expect(throws: FilesystemError.self) {
            try FATRemake(of: try FATVolume(MemoryDisk(bytes)), layout: small, hiddenSectors: 0)
        }
    }

    /// Untrusted bytes: no trap and no endless loop, and either an error or a FAT with the same contents.
    @Test(arguments: [12, 16, 32]) func hostileBytesAreAnErrorAtMost(bits: Int) throws {
        var random = Sample.generator(78_000 + bits)
        let bench = try Workbench()
        let image = try bench.systemPartition(
            bits: bits, byteCount: bits == 12 ? 1 << 20 : 36 << 20)
        let disk = try BlockDevice(opening: image)
        let front = try disk.readBytes(at: 0, count: min(2 << 20, Int(disk.byteCount)))
        let boot = try #require(try FATBootSector(front))
        let layout = try #require(
            FATLayout(volumeByteCount: 48 << 20, sectorSize: 4096, preferring: .fat16))
        var (made, refused) = (0, 0)
        for round in 0..<(Sample.isFull ? 3000 : 150) {
            var patches: [(UInt64, [UInt8])] = []
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                // The boot sector, the table, the first folders.
                let place =
                    [
                        UInt64.random(in: 0..<512, using: &random),
                        boot.offset(ofFAT: 0) + UInt64.random(in: 0..<64, using: &random),
                        boot.rootFolderOffset + UInt64.random(in: 0..<192, using: &random),
                        boot.dataOffset + UInt64.random(in: 0..<boot.clusterSize * 5, using: &random),
                    ].randomElement(using: &random) ?? 0
                patches.append((place, [UInt8.random(in: 0...255, using: &random)]))
            }
            var bytes = front
            for (place, patch) in patches where Int(place) < bytes.count { bytes[Int(place)] = patch[0] }
            let patched = MemoryDisk(bytes + [UInt8](repeating: 0, count: Int(disk.byteCount) - bytes.count))
            do {
                let volume = try FATVolume(patched)
                let remake = try FATRemake(of: volume, layout: layout, hiddenSectors: 0)
                let target = MemoryDisk(byteCount: 48 << 20, logicalSectorSize: 4096)
                try remake.run {
                    try target.writeBytes($0, at: $1)
                } zero: {
                    try target.writeZeros($0)
                }
                #expect(try remake.isThere(try FATVolume(target)), "seed \(Sample.seed), round \(round)")
                made += 1
            } catch is FilesystemError { refused += 1 }
            if made > 10, !Sample.isFull { break }
        }
        #expect(made > 0 && refused + made > 0, "seed \(Sample.seed)")
        print("hostile FAT\(bits), seed \(Sample.seed): \(made) made, \(refused) refused")
    }

    /// FAT32 with 4 KiB sectors needs some 256 MiB; a smaller volume gets FAT16, a larger one never does.
    @Test func theKindFollowsTheSpecification() throws {
        for mebibytes in 1...600 as ClosedRange<UInt64> {
            for sector in [512, 4096] {
                guard
                    let layout = FATLayout(
                        volumeByteCount: mebibytes << 20, sectorSize: sector, preferring: .fat32)
                else {
                    Issue.record("no FAT for \(mebibytes) MiB in sectors of \(sector)")
                    continue
                }
                let wanted: FilesystemInfo.Kind =
                    layout.clusterCount < 4085 ? .fat12 : layout.clusterCount < 65_525 ? .fat16 : .fat32
                #expect(layout.kind == wanted, "\(mebibytes) MiB, \(sector)")
                let end = layout.offset(ofCluster: layout.clusterCount + 2)
                #expect(end <= mebibytes << 20, "\(mebibytes) MiB, \(sector)")
                #expect(layout.fatByteCount * 8 >= (layout.clusterCount + 2) * layout.entryBits)
                if sector == 4096 { #expect((layout.kind == .fat32) == (mebibytes >= 257), "\(mebibytes)") }
            }
        }
    }
}
