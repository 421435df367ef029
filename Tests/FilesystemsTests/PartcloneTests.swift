// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// Reforge's maps compared with partclone's: a superset, and hardly more.
struct PartcloneTests {
    private static let mountsFUSE =
        SystemFacts.isRoot && Files.exists("/dev/fuse") && Tool.have("losetup", "blockdev", "umount")

    private static func indices(_ few: Int, _ many: Int) -> [Int] { Array(0..<(Sample.isFull ? many : few)) }

    private static func comment(_ kind: String, _ index: Int, _ recipe: String) -> Comment {
        "seed \(Sample.seed), partclone.\(kind) \(index): \(recipe)"
    }

    /// Compares Reforge's map of `image` with partclone's; returns the filesystem's length according to both.
    private func expectHeld(
        _ program: String, _ bench: Workbench, _ image: FilePath, others: [ByteRange] = [], _ comment: Comment
    ) throws -> (ours: FilesystemInfo, theirs: PartcloneMap) {
        let (info, map) = try bench.survey("image")
        #expect(info.mapSource == .allocationStructures, comment)
        let theirs = try PartcloneMap(program, bench, image, volumeByteCount: map.byteCount)
        theirs.expectHeld(by: map, others: others, comment)
        return (info, theirs)
    }

    /// Without bigalloc: partclone 0.3.23 takes its bitmap of clusters for one of blocks.
    private static let extCases = indices(9, 60).filter { index in
        var random = Sample.generator(12_000 + index)
        return !ExtRecipe.random(index, using: &random).features.contains("bigalloc")
    }

    @Test(
        .enabled(if: Tool.have("partclone.extfs", "mke2fs", "debugfs"), "needs partclone and e2fsprogs"),
        arguments: extCases)
    func ext(index: Int) throws {
        var random = Sample.generator(12_000 + index)
        var recipe = ExtRecipe.random(index, using: &random)
        let bench = try Workbench()
        let image = try bench.makeExt(&recipe, using: &random)
        let comment = Self.comment("extfs", index, "\(recipe)")
        let (ours, theirs) = try expectHeld("extfs", bench, image, comment)
        #expect(ours.byteCount == theirs.byteCount, comment)
    }

    /// partclone omits the blocks of the free lists, which groups reserve for growth of their trees: few enough for
    /// the bound. Every second one is aged by the kernel, where it can mount it.
    @Test(
        .enabled(if: Tool.have("partclone.xfs", "mkfs.xfs", "xfs_db"), "needs partclone and xfsprogs"),
        arguments: indices(4, 40))
    func xfs(index: Int) throws {
        var random = Sample.generator(12_100 + index)
        let recipe = XFSRecipe.random(version: index % 2 == 0 ? 4 : 5, using: &random)
        let bench = try Workbench()
        let prototype = try bench.xfsPrototype(files: 40, using: &random)
        let image = try bench.makeXFS(
            "image", byteCount: recipe.byteCount, recipe.options + ["-p", prototype.string])
        let isAged = recipe.version == 5 && Tool.canMountXFS
        if isAged {
            let files = try bench.randomTree("tree", files: 60, maximumByteCount: 60_000, using: &random)
            let doomed = files.keys.sorted().filter { _ in Bool.random(using: &random) }
            let removals = doomed.map { "rm \"$place/tree/\($0)\"\n" }.joined()
            try bench.runShell(
                "image",
                "mount -o loop \"$image\" \"$place\"\ncp -r \"$bench/tree\" \"$place/tree\"\n"
                    + XFSFixture.punchedFile("holes", holes: 200) + "sync -f \"$place\"\n" + removals)
        }
        let comment = Self.comment("xfs", index, "\(recipe)\(isAged ? ", aged" : "")")
        let (ours, theirs) = try expectHeld("xfs", bench, image, comment)
        #expect(ours.byteCount == theirs.byteCount, comment)
    }

    /// For partclone 0.3.23's treatment of Btrfs see `PartcloneBtrfs`; for that, all chunks are DUP.
    @Test(
        .enabled(
            if: Workbench.mountsBtrfs && Tool.have("partclone.btrfs"),
            "needs root, loop devices, btrfs in the kernel, btrfs-progs and partclone"), arguments: indices(3, 30))
    func btrfs(index: Int) throws {
        var random = Sample.generator(12_200 + index)
        var recipe = BtrfsRecipe.random(index, using: &random)
        recipe.arguments += ["-m", "dup", "-d", "dup"]
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: recipe.byteCount)
        try Tool.run(["mkfs.btrfs"] + recipe.arguments + [image.string])
        let files = try bench.randomTree("tree", files: 60, maximumByteCount: 60_000, using: &random)
        let doomed = files.keys.sorted().filter { _ in Bool.random(using: &random) }.map { "'\($0)'" }
        try bench.inMounted(
            "image", options: recipe.mountOptions,
            """
            cp -r ../tree one; sync; btrfs -q subvolume snapshot . kept
            (cd one; rm -f \(doomed.joined(separator: " ")))
            cp -r ../tree two; fallocate -l 3M holes; truncate -s 40M sparse; echo end >> sparse; sync
            """)
        let comment = Self.comment("btrfs", index, "\(recipe)")
        let (info, map) = try bench.survey("image")
        #expect(info.mapSource == .allocationStructures, comment)
        let theirs = try PartcloneMap("btrfs", bench, image, volumeByteCount: map.byteCount)
        let habits = try PartcloneBtrfs(image, theirs, map)
        theirs.expectHeld(by: map, others: habits.others, unused: habits.unused, comment)
    }

    @Test(
        .enabled(
            if: mountsFUSE && Tool.have("partclone.ntfs", "mkntfs", "ntfs-3g"),
            "needs root, /dev/fuse, ntfs-3g and partclone"), arguments: indices(3, 30))
    func ntfs(index: Int) throws {
        var random = Sample.generator(12_300 + index)
        var recipe = NTFSRecipe.random(index, using: &random)
        // More than its newer versions accept.
        if recipe.clusterSize > 65536 { recipe.clusterSize = 65536 }
        let bench = try Workbench()
        let image = try bench.agedNTFS(recipe, using: &random)
        let comment = Self.comment("ntfs", index, "\(recipe)")
        // The last sector, with the copy of the boot sector, is behind the last cluster: partclone omits it.
        _ = try expectHeld("ntfs", bench, image, comment)
    }

    /// Not with 12 bits: partclone 0.3.23 reads those entries as if each had 16. A remainder at the end that is
    /// shorter than a cluster counts as used on both sides.
    @Test(
        .enabled(
            if: Tool.have("partclone.fat", "mkfs.fat", "mcopy", "mdel"), "needs partclone, dosfstools and mtools"),
        arguments: indices(4, 40))
    func fat(index: Int) throws {
        var random = Sample.generator(12_400 + index)
        let bits = index % 2 == 0 ? 16 : 32
        let sectorSize = index % 4 == 3 ? 4096 : 512
        let sectors = Int.random(in: bits == 16 ? 20_000...60_000 : 70_000...130_000, using: &random)
        let perCluster = bits == 16 ? [1, 2, 4].randomElement(using: &random) ?? 4 : 1
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: UInt64(sectors * sectorSize) + 512 * 3)
        let arguments = [
            "-F", "\(bits)", "-S", "\(sectorSize)", "-s", "\(perCluster)", "-f", index % 3 == 2 ? "1" : "2",
        ]
        try Tool.run(["mkfs.fat"] + arguments + [image.string])
        let files = try bench.randomTree("tree", files: 30, maximumByteCount: 20_000, using: &random)
        let roots = Files.names(in: bench.path("tree")).map { bench.path("tree").appending($0).string }
        try Tool.run(["mcopy", "-s", "-Q", "-i", image.string] + roots + ["::/"])
        let doomed = files.keys.sorted().filter { _ in Bool.random(using: &random) }.map { "::/\($0)" }
        if !doomed.isEmpty { try Tool.run(["mdel", "-i", image.string] + doomed) }
        let comment = Self.comment("fat", index, arguments.joined(separator: " ") + ", \(sectors) sectors")
        let (ours, theirs) = try expectHeld("fat", bench, image, comment)
        #expect(ours.byteCount == theirs.byteCount, comment)
    }

    /// A remainder at the end that is shorter than a cluster counts as used here, and partclone omits it.
    @Test(
        .enabled(
            if: mountsFUSE && Tool.have("partclone.exfat", "mkfs.exfat", "mount.exfat-fuse"),
            "needs root, /dev/fuse, exfatprogs, exfat-fuse and partclone"), arguments: indices(3, 30))
    func exFAT(index: Int) throws {
        var random = Sample.generator(12_500 + index)
        let clusterSize = [512, 4096, 32768][index % 3]
        let byteCount = UInt64(Int.random(in: 40_000...120_000, using: &random)) * 512
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: byteCount)
        try Tool.run(["mkfs.exfat", "-c", "\(clusterSize)", "-b", "128K", image.string])
        let files = try bench.randomTree("tree", files: 60, maximumByteCount: 60_000, using: &random)
        let doomed = files.keys.sorted().filter { _ in Bool.random(using: &random) }.map { "'\($0)'" }
        // The driver requires a block device.
        let loop = try Tool.run(["losetup", "--find", "--show", image.string]).split(separator: "\n").joined()
        defer { _ = try? Tool.run(["losetup", "-d", loop]) }
        let script = "cp -r ../tree/. .; rm -f \(doomed.joined(separator: " ")); cp -r ../tree again"
        _ = try Tool.text(
            of: try MountedScript.run(
                mount: "mount.exfat-fuse \"$node\" \"$place\" >&2", loop, on: bench.path("mounted"), script), script)
        try Tool.run(["blockdev", "--flushbufs", loop])
        let comment = Self.comment("exfat", index, "\(byteCount) bytes, clusters of \(clusterSize)")
        let boot = try #require(
            try ExFATBootSector(try BlockDevice(opening: image).readBytes(at: 0, count: 512)), comment)
        let (ours, theirs) = try expectHeld(
            "exfat", bench, image, others: [boot.offset(ofCluster: boot.clusterEnd)..<byteCount], comment)
        #expect(ours.byteCount == theirs.byteCount, comment)
    }

    /// A remainder at the end that is shorter than a segment counts as used here; partclone looks those blocks up
    /// behind the end of its table. (The kernel here has no F2FS to age one.)
    @Test(
        .enabled(if: Tool.have("partclone.f2fs", "mkfs.f2fs", "sload.f2fs"), "needs partclone and f2fs-tools"),
        arguments: indices(3, 30))
    func f2fs(index: Int) throws {
        var random = Sample.generator(12_600 + index)
        let options: [[String]] = [
            [], ["-O", "extra_attr,inode_checksum,sb_checksum"], ["-s", "2"],
            ["-O", "lost_found,casefold", "-C", "utf8"],
        ]
        let byteCount = (UInt64(Int.random(in: 120...260, using: &random)) << 20) + 512 * 5
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: byteCount)
        try Tool.run(["mkfs.f2fs", "-q"] + options[index % options.count] + [image.string])
        try bench.randomTree("tree", files: 80, maximumByteCount: 60_000, using: &random)
        try Tool.run(["sload.f2fs", "-f", bench.path("tree").string, image.string])
        let comment = Self.comment("f2fs", index, "\(options[index % options.count]) \(ByteText.rounded(byteCount))")
        let bytes = try BlockDevice(opening: image).readBytes(at: 1024, count: 3072)
        let mainStart = UInt64(try bytes.littleEndian(UInt32.self, at: 92)) * 4096
        let mainEnd = mainStart + UInt64(try bytes.littleEndian(UInt32.self, at: 68)) * (2 << 20)
        _ = try expectHeld("f2fs", bench, image, others: [mainEnd..<byteCount], comment)
    }
}

/// The differences between partclone 0.3.23 and a Btrfs whose chunks are all DUP, according to its
/// source (src/btrfsclone.c).
struct PartcloneBtrfs {
    /// Used, and omitted by it.
    let others: [ByteRange]
    /// Unused, and cloned by it.
    let unused: AllocationMap

    init(_ image: FilePath, _ theirs: PartcloneMap, _ map: AllocationMap) throws {
        let head = try BlockDevice(opening: image).readBytes(at: 65536, count: 4096)
        guard let superblock = try BtrfsSuperblock(head) else { throw ToolFailure(description: "no superblock") }
        let nodeSize = UInt64(superblock.nodeSize)
        let dump = "btrfs inspect-internal dump-tree"
        // The first MiB and 64 KiB around each superblock are never allocated; it takes no more than one node there.
        var others: [ByteRange] = [0..<1 << 20, 64 << 20..<(64 << 20) + 65536]
        // It asks for the first copy only.
        let chunks = try Tool.run([
            "sh", "-c",
            "\(dump) -t chunk \(image.string) | grep -oE 'CHUNK_ITEM|length [0-9]+|stripe [0-9]+ .*offset [0-9]+'",
        ])
        var length: UInt64 = 0
        var copies: [UInt64] = []
        for line in chunks.split(separator: "\n") {
            let words = line.split(separator: " ")
            if words[0] == "CHUNK_ITEM" {
                copies = []
            } else if let number = words.last.flatMap({ UInt64($0) }) {
                if words[0] == "length" { length = number } else { copies.append(number) }
            }
            guard words[0] == "stripe", copies.count == 2 else { continue }
            for range in theirs.used.ranges(in: copies[0]..<copies[0] + length) {
                let start = range.lowerBound - copies[0] + copies[1]
                others.append(start..<start + range.byteCount)
            }
        }
        self.others = others

        // It clones a tree block up to the end of the 64 KiB stripe in which the block starts.
        var cloned = map.widened(toMultiplesOf: 65536)
        // And it takes the logical addresses of files' extents for places on the device too, in whole nodes.
        let extents = try Tool.run(["sh", "-c", "\(dump) \(image.string) | grep -oE 'disk byte [0-9]+ nr [0-9]+'"])
        for line in extents.split(separator: "\n") {
            let numbers = line.split(separator: " ").compactMap { UInt64($0) }
            guard numbers.count == 2 else { throw ToolFailure(description: "dump-tree: \(line)") }
            let end = numbers[0] + numbers[1]
            cloned.insert(numbers[0] / nodeSize * nodeSize..<(end + nodeSize - 1) / nodeSize * nodeSize)
        }
        unused = AllocationMap(byteCount: map.byteCount, unsorted: cloned.without(map))
    }
}
