// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// Filesystems written by the kernel.
@Suite(.enabled(if: Workbench.mountsBtrfs, "needs root, loop devices, btrfs in the kernel and btrfs-progs"))
struct MountedBtrfsTests {
    static let cases = Array(0..<(Sample.isFull ? 60 : 8))

    /// Subvolumes, snapshots, reflinks, compressed, sparse and deleted files, and chunks that a balance moved.
    @Test(arguments: cases) func whatTheKernelWroteIsMapped(index: Int) throws {
        var random = Sample.generator(5000 + index)
        let recipe = BtrfsRecipe.random(index, using: &random)
        let comment: Comment = "seed \(Sample.seed), case \(index): \(recipe)"
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: recipe.byteCount)
        try Tool.run(["mkfs.btrfs"] + recipe.arguments + [image.string])
        let first = try bench.randomTree("first", files: 60, maximumByteCount: 500_000, using: &random)
        let second = try bench.randomTree("second", files: 60, maximumByteCount: 200_000, using: &random)
        func doomed(_ files: [String: [UInt8]]) -> String {
            files.keys.sorted().filter { _ in Bool.random(using: &random) }.map { "'\($0)'" }.joined(separator: " ")
        }
        let before = try bench.inMounted(
            "image", options: recipe.mountOptions,
            """
            btrfs -q subvolume create one; cp -r ../first/. one; sync
            btrfs -q subvolume snapshot -r one kept; (cd one; rm -f \(doomed(first)))
            cp -r ../second two; cp -r --reflink=always two three; sync; (cd two; rm -f \(doomed(second)))
            btrfs -q subvolume snapshot one again; rm -rf again/folder*; setfattr -n user.name -v value again || true
            truncate -s 40M sparse
            find ../second -type f | head -5 | xargs cat | dd of=sparse bs=4096 seek=5000 conv=notrunc status=none
            fallocate -l 3M holes; dd if=/dev/urandom of=holes bs=64k count=40 conv=notrunc status=none; sync
            fallocate -p -o 300000 -l 900000 holes; mkdir plain; chattr +C plain; dd if=/dev/urandom of=plain/a bs=1M count=2 status=none
            btrfs -q subvolume snapshot . whole; btrfs -q subvolume delete -c again >&2
            btrfs -q balance start -dusage=\([10, 40, 90].randomElement(using: &random) ?? 40) . >&2 || true
            \(Workbench.hashes)
            """)
        #expect(before.split(separator: "\n").count > 200, comment)

        let (info, map) = try bench.survey("image")
        #expect(info.wholeReason == nil && info.remarks == [], comment)
        #expect(info.mapSource == .allocationStructures && info.isClean == true, comment)
        #expect(info.label == "label \(index)" && info.kind == .btrfs, comment)
        #expect(try bench.opinion("image") == .found(kindName: "btrfs", uuid: info.uuid, label: info.label), comment)
        let dump = try BtrfsDump(image, volumeByteCount: recipe.byteCount)
        #expect(info.byteCount == dump.deviceByteCount, comment)
        #expect(dump.used.ranges.filter { !map.covers($0) } == [], comment)
        let excess = map.usedByteCount - min(map.usedByteCount, dump.used.usedByteCount)
        #expect(excess * 200 <= recipe.byteCount, comment)
        print(
            "\(comment): \(percent(map.usedByteCount, of: recipe.byteCount)) used, over-approximation",
            "\(percent(excess, of: recipe.byteCount)), of it never given out",
            "\(percent(dump.used.usedByteCount - dump.extents.usedByteCount, of: recipe.byteCount))")

        // With quotas, deleted snapshots sometimes leave the kernel's own counts wrong, and the check reports it.
        let sound = try ChildProcess.run(["btrfs", "check", "--readonly", image.string])
        let isExcused = sound.errorText.contains("Counts for qgroup") || sound.text.contains("Counts for qgroup")
        #expect(sound.succeeded || isExcused, "\(comment): \(sound.lastWords)")
        try spoilUnused(image, map)
        let check = try ChildProcess.run(["btrfs", "check", "--readonly", image.string])
        #expect(check.ending == sound.ending && check.text == sound.text, "\(comment): \(check.lastWords)")
        let after = try bench.inMounted(
            "image", options: "ro", "btrfs scrub start -B -r . >&2; \(Workbench.hashes)")
        #expect(after == before, comment)
    }

    /// Copied while mounted: the state of a commit is consistent, the changes in a log tree are not in it.
    @Test func aLogTreeIsNotFollowed() throws {
        var random = Sample.generator(5100)
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 200 << 20)
        try Tool.run(["mkfs.btrfs", "-q", "-f", image.string])
        try bench.randomTree("tree", files: 40, maximumByteCount: 300_000, using: &random)
        let before = try bench.inMounted(
            "image",
            """
            cp -r ../tree here; rm -rf here/folder*; echo one > log; sync
            \(Workbench.hashes)
            cp --sparse=always ../image ../committed
            echo two >> log; sync log; cp --sparse=always ../image ../logged
            """)
        let (logged, whole) = try bench.survey("logged")
        #expect(try BtrfsDump(bench.path("logged"), volumeByteCount: 200 << 20).logRoot != 0)
        #expect(logged.wholeReason == "its log tree holds changes not yet in place")
        #expect(logged.isClean == false && logged.mapSource == .whole && whole == .whole(byteCount: 200 << 20))

        let (committed, map) = try bench.survey("committed")
        #expect(committed.wholeReason == nil && committed.isClean == true, "seed \(Sample.seed)")
        #expect(map.usedByteCount < 50 << 20)
        try spoilUnused(bench.path("committed"), map)
        let check = try ChildProcess.run(["btrfs", "check", "--readonly", bench.path("committed").string])
        #expect(check.succeeded, "\(check.lastWords)")
        #expect(try bench.inMounted("committed", Workbench.hashes) == before, "seed \(Sample.seed)")
    }

    /// The kernel mounts and fills the fixture's filesystem.
    @Test func blockGroupsInATreeOfTheirOwn() throws {
        var random = Sample.generator(5300)
        let bench = try Workbench()
        var fixture = try BtrfsFixture.make(["-m", "single", "-d", "single"], byteCount: 160 << 20, files: 10)
        try fixture.addBlockGroupTree()
        let image = bench.path("image")
        try bench.write(fixture.bytes, to: image)
        try bench.randomTree("tree", files: 60, maximumByteCount: 300_000, using: &random)
        let before = try bench.inMounted(
            "image",
            """
            cp -r ../tree a; sync; cp -r a b; rm -rf a/folder*; btrfs -q subvolume snapshot . c; sync
            \(Workbench.hashes)
            """)
        let (info, map) = try bench.survey("image")
        #expect(info.wholeReason == nil, "seed \(Sample.seed)")
        #expect(info.features.contains("block_group_tree"))
        #expect(map.usedByteCount < 60 << 20)
        try spoilUnused(image, map)
        let after = try bench.inMounted(
            "image", options: "ro", "btrfs scrub start -B -r . >&2; \(Workbench.hashes)")
        #expect(after == before, "seed \(Sample.seed)")
    }

    /// `btrfs filesystem resize` reaches it in one step. The fuller the filesystem, the less room for moving chunks.
    @Test(arguments: 0..<(Sample.isFull ? 24 : 3)) func theLeastLengthCanBeReached(index: Int) throws {
        var random = Sample.generator(5200 + index)
        func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
        let bench = try Workbench()
        let byteCount = UInt64(number(500...900)) << 20
        let image = try bench.sparseFile("image", byteCount: byteCount)
        try Tool.run(["mkfs.btrfs", "-q", "-f", "-m", index % 2 == 0 ? "dup" : "single", image.string])
        try bench.randomTree("tree", files: 60, maximumByteCount: 500_000, using: &random)
        try bench.inMounted(
            "image",
            """
            for n in 1 2 3 4 5 6; do
                cp -r ../tree $n || true; dd if=/dev/zero of=$n/big bs=1M count=\(number(30...100)) status=none || true; sync
            done
            rm -rf \(number(1...6)) \(number(1...6)) \(number(1...6)); sync
            btrfs -q balance start -dusage=\(number(0...60)) . >&2 || true
            """)
        let theirs = try bench.inMounted("image", options: "ro", "btrfs inspect-internal min-dev-size .")
        let (info, map) = try bench.survey("image")
        let least = try #require(info.leastByteCount)
        let named = try #require(theirs.split(separator: " ").first.flatMap { UInt64($0) })
        print(
            "seed \(Sample.seed), case \(index): \(ByteText.rounded(byteCount)) with",
            "\(ByteText.rounded(map.usedByteCount)) used can shrink to \(ByteText.rounded(least)), min-dev-size",
            ByteText.rounded(named))
        #expect(least <= byteCount, "seed \(Sample.seed), case \(index)")
        let hashes = try bench.inMounted("image", "\(Workbench.hashes)")
        let shrunk = try bench.inMounted("image", "btrfs filesystem resize \(least) . >&2; \(Workbench.hashes)")
        #expect(shrunk == hashes, "seed \(Sample.seed), case \(index)")
        let (after, shrunkMap) = try bench.survey("image")
        #expect(after.wholeReason == nil && after.byteCount == least, "seed \(Sample.seed), case \(index)")
        #expect(shrunkMap.covers(least..<byteCount), "what lies behind the end is kept")
    }
}

extension Workbench {
    static let mountsBtrfs =
        SystemFacts.isRoot && Files.exists("/dev/loop-control") && Files.exists("/sys/fs/btrfs")
        && Tool.have("mkfs.btrfs", "btrfs", "mount")

    /// A line for each file, in each subvolume.
    static let hashes = "find . -type f -print0 | sort -z | xargs -0 sha256sum"

    /// Runs a script with an image mounted, in its mount point, and unmounts it.
    @discardableResult func inMounted(_ name: String, options: String = "rw", _ script: String) throws -> String {
        try Tool.text(
            of: try MountedScript.run(
                mount: "mount -o loop,\(options) \"$node\" \"$place\"", path(name).string, on: path("mounted"), script),
            script)
    }
}
