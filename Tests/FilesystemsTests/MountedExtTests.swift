// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// Filesystems written by the kernel.
@Suite(
    .enabled(
        if: SystemFacts.isRoot && Files.exists("/dev/loop-control")
            && Tool.have("mke2fs", "dumpe2fs", "e2fsck", "mount"),
        "needs root, loop devices and e2fsprogs"))
struct MountedExtTests {
    private static let recipes: [[String]] = [
        ["-t", "ext4", "-b", "4096"], ["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"],
        ["-t", "ext4", "-b", "4096", "-O", "bigalloc", "-C", "16384"], ["-t", "ext3", "-b", "1024"],
        ["-t", "ext2", "-b", "2048"], ["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"],
    ]

    @Test(arguments: recipes.indices) func whatTheKernelWroteIsMapped(index: Int) throws {
        var random = Sample.generator(4000 + index)
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 200 << 20)
        try Tool.run(["mke2fs", "-q", "-F", "-E", "lazy_itable_init=1"] + Self.recipes[index] + [image.string])
        let place = bench.path("mounted")
        try Files.makeFolders(place)
        try Tool.run(["mount", "-o", "loop", image.string, place.string])
        var isMounted = true
        defer { if isMounted { _ = try? Tool.run(["umount", "-l", place.string]) } }
        let files = try bench.randomTree("mounted", files: 150, maximumByteCount: 400_000, using: &random)
        for name in files.keys.sorted() where Bool.random(using: &random) { try Files.remove(place.appending(name)) }

        // Copied while mounted: not to be trusted, with a journal or without.
        try Tool.run(["sync", "-f", place.string])
        try Tool.run(["cp", "--sparse=always", image.string, bench.path("copy").string])
        let (mounted, whole) = try bench.survey("copy")
        #expect(mounted.mapSource == .whole && mounted.isClean == false)
        #expect(
            mounted.wholeReason
                == (mounted.kind == .ext2
                    ? "it was not cleanly unmounted" : "its journal holds changes not yet in place"))
        #expect(whole == .whole(byteCount: 200 << 20))

        try Tool.run(["umount", place.string])
        isMounted = false
        let (info, map) = try bench.survey("image")
        let comment: Comment = "seed \(Sample.seed), \(Self.recipes[index])"
        #expect(info.mapSource == .allocationStructures && info.isClean == true, comment)
        let dumped = try DumpedBlocks(try Tool.run(["dumpe2fs", image.string]), volumeByteCount: 200 << 20)
        #expect(dumped.used.ranges.filter { !map.covers($0) } == [], comment)
        #expect(map.usedByteCount == dumped.used.usedByteCount, comment)
        try spoilUnused(image, map)
        let check = try ChildProcess.run(["e2fsck", "-fn", image.string])
        #expect(check.succeeded, "\(comment): \(check.text)")
    }
}
