// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

@Suite(.enabled(if: Tool.have("mke2fs", "debugfs", "e2fsck", "resize2fs"), "needs e2fsprogs"))
struct ExtLeastSizeTests {
    static let cases = Array(0..<(Sample.isFull ? 200 : 8))

    /// A random filesystem with a random tree: resize2fs can shrink it to Reforge's least size, and its own
    /// estimate is not far below.
    @Test(arguments: cases) func resize2fsShrinksToTheLeastSize(index: Int) throws {
        var random = Sample.generator(index + 5000)
        var recipe = ExtRecipe.random(index, using: &random)
        let bench = try Workbench()
        let image = try bench.makeExt(&recipe, using: &random)
        let comment: Comment = "seed \(Sample.seed), case \(index): \(recipe)"
        // e2fsck repairs the quotas that debugfs did not maintain.
        _ = try ChildProcess.run(["e2fsck", "-fy", image.string])
        let (info, _) = try bench.survey("image")
        guard info.resizeAbility.canShrink else {
            #expect(info.leastByteCount == nil, comment)
            #expect(!info.features.allSatisfy { !["bigalloc", "stable_inodes"].contains($0) }, comment)
            return
        }
        let least = try #require(info.leastByteCount, comment)
        let length = try #require(info.byteCount, comment)
        let blockSize = UInt64(recipe.blockSize)
        #expect(least <= length && least % blockSize == 0, comment)
        let estimate = try Tool.run(["resize2fs", "-P", image.string]).split(whereSeparator: \.isWhitespace).last
        let theirs = try #require(estimate.flatMap { UInt64($0) }, comment) * blockSize
        #expect(least >= theirs, comment)
        // 3 % of the filesystem plus a few blocks; up to 7 % for very small ones with very small groups.
        let excess = least - min(least, theirs)
        let forgotten = try Self.forgottenBlockCount(image) * blockSize
        #expect(excess <= length / (length < 96 << 20 ? 14 : 33) + 128 * blockSize + forgotten, comment)
        print("\(comment): \(least) of \(length), resize2fs -P \(theirs): \(percent(excess, of: length)) more")
        let shrunk = try ChildProcess.run(["resize2fs", image.string, "\(least / UInt64(512))s"])
        #expect(shrunk.succeeded, "\(comment): \(shrunk.lastWords)")
        let check = try ChildProcess.run(["e2fsck", "-fn", image.string])
        #expect(check.succeeded, "\(comment): \(check.text)")
    }

    /// The blocks of metadata that the tool's estimate omits and Reforge counts: where those of a flex group exceed
    /// its first groups, it counts none of them as free, and then each further group as completely free. Computed from
    /// its messages about its own estimate (`-d 32`).
    private static func forgottenBlockCount(_ image: FilePath) throws -> UInt64 {
        let said = try Tool.run(["resize2fs", "-d", "32", "-P", image.string]).split(separator: "\n")
        guard said.contains(where: { $0.hasSuffix(" group(s), we have 0 blocks available.") }) else { return 0 }
        let overhead = said.first { $0.hasPrefix("Last group's overhead is ") }
        return try #require(overhead?.split(separator: " ").last.flatMap { UInt64($0) })
    }

    /// Aged by the kernel: nearly full of small and large files, every other one deleted
    /// again, large ones in the holes.
    @Test(
        .enabled(if: SystemFacts.isRoot && Files.exists("/dev/loop-control"), "needs root and loop devices"),
        arguments: [["-t", "ext4", "-b", "4096", "-G", "4"], ["-t", "ext3", "-b", "1024"]])
    func agedFilesystemsShrinkToTheLeastSize(_ options: [String]) throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 160 << 20)
        try Tool.run(["mke2fs", "-q", "-F"] + options + [image.string])
        let place = bench.path("mounted")
        try Files.makeFolders(place)
        let sums = bench.path("sums").string
        try Self.mounted(
            image, on: place,
            """
            mkdir many
            i=0; while [ $i -lt 1200 ]; do head -c $((i % 90 * 1000)) /dev/urandom >"many/$i"; i=$((i + 1)); done; sync
            find many -name '*[13579]' -delete; sync
            i=0; while [ $i -lt 3 ]; do head -c 9000000 /dev/urandom >"large $i"; i=$((i + 1)); done; sync
            find many -name '*[24]' -delete; find . -type f -exec sha256sum {} + | sort >"$1"
            """, sums)
        let (info, map) = try bench.survey("image")
        let least = try #require(info.leastByteCount)
        try Tool.run(["e2fsck", "-f", "-p", image.string])
        try Tool.run(["resize2fs", image.string, "\(least / UInt64(512))s"])
        let file = try FileDescriptor.open(image, .readWrite)
        try Files.resize(file, "image", to: least)
        try file.close()
        try Tool.run(["e2fsck", "-fn", image.string])
        try Self.mounted(image, on: place, "sha256sum --quiet -c \"$1\"", sums)
        print("\(options): \(map.usedByteCount) bytes used, least \(least)")
    }

    /// Runs a script in the mounted image, with `argument` as its argument.
    private static func mounted(_ image: FilePath, on place: FilePath, _ script: String, _ argument: String) throws {
        let byteCount = try BlockDevice(opening: image).byteCount
        let loop = try LoopDevice(over: image, range: 0..<byteCount)
        let result = Result {
            try Tool.text(
                of: try MountedScript.run(
                    mount: "mount \"$node\" \"$place\"", loop.path.string, on: place, script, arguments: [argument]),
                script)
        }
        _ = consume loop
        _ = try result.get()
    }

    /// A full filesystem, and one that is nearly all inodes.
    @Test func extremes() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 24 << 20)
        try Tool.run(["mke2fs", "-q", "-F", "-t", "ext4", "-i", "1024", "-b", "1024", image.string])
        let (info, _) = try bench.survey("image")
        let least = try #require(info.leastByteCount)
        #expect(least < 20 << 20)
        try Tool.run(["resize2fs", image.string, "\(least / UInt64(512))s"])
        try Tool.run(["e2fsck", "-fn", image.string])
        let (again, _) = try bench.survey("image")
        #expect(try #require(again.byteCount) <= least)
        #expect(try #require(again.leastByteCount) <= least)
    }
}
