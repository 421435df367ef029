// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import FilesystemResize

/// The least sizes that plans rely on: the tools really shrink to them.
@Suite(.enabled(if: Ability.loopDevices, "needs root and loop devices"), .serialized)
struct LeastSizeTests {
    /// Uses dd, because cat and cp share the blocks where the filesystem can. Nearly full, then every second file
    /// removed, then larger files into the holes.
    static func fragment(_ bench: ResizeBench, _ mebibytes: UInt64, fileCount: Int, byteCount: Int) throws {
        try bench.mounted(
            mebibytes,
            """
            mkdir many; i=0
            head -c \(byteCount) /dev/urandom >one
            while [ $i -lt \(fileCount) ]; do dd if=one of="many/$i" bs=1M status=none; i=$((i + 1)); done; sync
            find many -name '*[13579]' -delete; sync
            i=0; while [ $i -lt 6 ]; do head -c 5000000 /dev/urandom >"large $i"; i=$((i + 1)); done; sync
            find many -name '*[26]' -delete; sync
            """)
    }

    @Test(arguments: [(Recipe.ntfs, 1 as UInt64), (.ntfsLarge, 2)])
    func ntfsresizeShrinksToOurLeastSize(_ recipe: Recipe, _ seed: UInt64) throws {
        guard recipe.isPossible else { return }
        let length: UInt64 = 160
        var bench = try ResizeBench(recipe, roomMiB: length, seed: seed)
        try FilesystemResizer.grow(recipe.info, on: bench.place(length))
        try Self.fragment(bench, length, fileCount: seed == 2 ? 100 : 300, byteCount: seed == 2 ? 700_000 : 150_000)
        let before = try bench.contents(length)
        let used = try bench.mounted(length, "stat -f -c '%S %b %f' .").split(whereSeparator: \.isWhitespace)
            .compactMap { UInt64($0) }
        try #require(used.count == 3)
        let usedByteCount = used[0] * (used[1] - used[2])
        let least = LeastSize.ntfs(usedByteCount: usedByteCount, clusterSize: recipe.blockSize)
        let wish = least / 512 * 512
        let outcome = try FilesystemResizer.shrink(recipe.info, to: wish, on: bench.place(length))
        print("\(recipe.name), \(usedByteCount) bytes used: shrunk to \(outcome.byteCount)")
        try bench.drop(from: wish, to: length)
        bench.tail = wish
        try bench.check(0)
        #expect(try bench.contents(0) == before)
    }

    @Test(arguments: [2] as [UInt64]) func btrfsShrinksToOurLeastSize(_ seed: UInt64) throws {
        guard Recipe.btrfs.isPossible else { return }
        let length: UInt64 = 1500
        var bench = try ResizeBench(.btrfs, roomMiB: length, seed: seed)
        try FilesystemResizer.grow(Recipe.btrfs.info, on: bench.place(length))
        try Self.fragment(bench, length, fileCount: 420, byteCount: 900_000)
        let before = try bench.contents(length)
        var extents: [UInt64] = []
        try bench.onLoop(length, readOnly: true) { node in
            // Tree 4 is the device tree.
            let words = try ResizeBench.run(["btrfs", "inspect-internal", "dump-tree", "-t", "4", node])
                .split(whereSeparator: \.isWhitespace)
            for (index, word) in words.enumerated().dropLast() where word == "length" {
                extents += UInt64(words[index + 1]).map { [$0] } ?? []
            }
        }
        let least = LeastSize.btrfs(
            allocatedByteCount: extents.reduce(0, +), largestExtentByteCount: try #require(extents.max()))
        #expect(least < length << 20, "nothing to do for allocated \(extents)")
        #expect(least > LeastSize.btrfsFloor, "the floor was tried, not the formula")
        let outcome = try FilesystemResizer.shrink(Recipe.btrfs.info, to: least, on: bench.place(length))
        print("Btrfs, \(extents.reduce(0, +)) bytes allocated: shrunk to \(outcome.byteCount)")
        try bench.drop(from: least, to: length)
        bench.tail = least
        try bench.check(0)
        #expect(try bench.contents(0) == before)
    }
}
