// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// Filesystems written by the kernel: version 5 only, because not every kernel mounts version 4.
@Suite(.enabled(if: Tool.canMountXFS, "needs root, loop devices, xfsprogs and a kernel with XFS"))
struct MountedXFSTests {
    static let cases = Array(0..<(Sample.isFull ? 60 : 5))

    /// All visible data of the files: names, modes, links, owners, sizes, blocks, contents, extended attributes.
    private static let listing = """
        (cd "$place"; find . -printf '%p %M %n %U %G %s %b\\n' | sort; find . -type f -print0 | sort -z | \
        xargs -0 sha256sum; find . -type l -printf '%p %l\\n' | sort; getfattr -R -d -m - -e hex . 2>/dev/null || true)
        """

    /// Grown and aged: the map equals that of `xfs_db`, and with all other bytes overwritten every file is unchanged.
    @Test(arguments: cases) func whatTheKernelWroteIsMapped(index: Int) throws {
        var random = Sample.generator(5200 + index)
        let recipe = XFSRecipe.random(version: 5, using: &random)
        let comment: Comment = "seed \(Sample.seed), case \(index): \(recipe)"
        let bench = try Workbench()
        let image = try bench.makeXFS("image", byteCount: recipe.byteCount, recipe.options)
        let files = try bench.randomTree("tree", files: 120, maximumByteCount: 500_000, using: &random)
        let script = try Self.ageing(bench, files.keys.sorted(), recipe, using: &random)
        try bench.runShell("image", "mount -o loop \"$image\" \"$place\"\n" + script)
        // Checked in a copy: a mount frees the blocks reserved for copies on write.
        try bench.runShell("image", "cp --sparse=always \"$image\" \"$bench/copy\"\n")
        let before = try bench.runShell("copy", "mount -o loop,ro \"$image\" \"$place\"\n" + Self.listing)

        let (info, map) = try bench.survey("image")
        try expectAgreement(bench, info, map, recipe, comment)
        try spoilUnused(image, map)
        let check = try ChildProcess.run(["xfs_repair", "-n", image.string])
        #expect(check.succeeded, "\(comment): \(check.text)")
        let after = try bench.runShell("image", "mount -o loop,ro \"$image\" \"$place\"\n" + Self.listing)
        #expect(before.count > 1000 && after == before, comment)
    }

    /// Shell commands that create, delete, punch, clone, link and label.
    private static func ageing(
        _ bench: Workbench, _ names: [String], _ recipe: XFSRecipe, using random: inout SeededGenerator
    ) throws -> String {
        var script = "cp -a \"$bench/tree\" \"$place/tree\"\n"
        script += XFSFixture.punchedFile("holes", holes: Int.random(in: 100...900, using: &random))
        if recipe.hasReflink {
            script += "cp --reflink=always \"$place/holes\" \"$place/clone\"\n"
            script += "xfs_io -c 'pwrite -q -S 7 8192 100000' \"$place/clone\"\n"
        }
        script += "xfs_io -f -c 'falloc 0 3m' -c 'pwrite -q 1m 64k' \"$place/reserved\"\n"
        script += "truncate -s 100M \"$place/sparse\"; echo end >> \"$place/sparse\"\n"
        script += "ln -s holes \"$place/soft\"; ln \"$place/reserved\" \"$place/hard\"\n"
        script += "setfattr -n user.small -v text \"$place/holes\"\n"
        script += "setfattr -n user.large -v \"$(head -c 30000 /dev/zero | tr '\\0' x)\" \"$place/holes\"\n"
        for name in names where Int.random(in: 0..<2, using: &random) == 0 { script += "rm \"$place/tree/\(name)\"\n" }
        let folders = Int.random(in: 50...400, using: &random)
        script +=
            "i=0; while [ $i -lt \(folders) ]; do mkdir \"$place/f$i\"; echo $i > \"$place/f$i/x\"; i=$((i+1)); done\n"
        script += "sync -f \"$place\"; rm -r \"$place\"/f*3\n"
        return script
    }

    /// A log with pending changes is never judged clean; one that was closed always is.
    @Test(arguments: [
        ["-l", "size=6m"], ["-b", "size=1024", "-m", "rmapbt=1", "-d", "agcount=2", "-l", "size=6m"],
        ["-s", "size=4096", "-l", "size=6m"], ["-l", "size=24m,su=256k"],
    ])
    func logIsJudgedAsTheKernelDoes(options: [String]) throws {
        let bench = try Workbench()
        try bench.makeXFS("image", byteCount: 128 << 20, options)
        let copy = "cp --sparse=always \"$image\" \"$bench/copy\"\n"
        let work = """
            i=0; while [ $i -lt 800 ]; do echo "$i" > "$place/file$i"; i=$((i+1)); done; sync -f "$place"; \
            rm -f "$place"/file*7; xfs_io -f -c 'pwrite -q -S 9 0 300k' -c fsync "$place/synced"\n
            """
        let mount = "mount -o loop \"$image\" \"$place\"\n"
        let steps: [(name: String, file: String, script: String, isClean: Bool)] = [
            ("idle", "copy", copy, true),
            ("crashed after fsync", "copy", work + copy, false),
            ("unmounted", "image", work, true),
            ("frozen", "copy", work + "xfs_freeze -f \"$place\"\n" + copy + "xfs_freeze -u \"$place\"\n", false),
            ("stopped, log flushed", "image", work + "xfs_io -x -c 'shutdown -f' \"$place\"\n", false),
            ("replayed", "image", "", true),
            ("remounted read-only", "copy", work + "mount -o remount,ro \"$place\"\n" + copy, true),
        ]
        // Repeatedly, so that the log wraps many times.
        for round in 0..<(Sample.isFull ? 20 : 3) {
            for step in steps {
                try bench.runShell("image", mount + step.script)
                let comment: Comment = "\(options), round \(round), \(step.name)"
                let (info, map) = try bench.survey(step.file)
                #expect(info.isClean == step.isClean, "\(comment): \(info.wholeReason ?? "no reason")")
                #expect((info.mapSource == .allocationStructures) == step.isClean, comment)
                if !step.isClean {
                    #expect(info.wholeReason == "its log holds changes not yet in place", comment)
                    #expect(map == .whole(byteCount: 128 << 20), comment)
                }
                let judge = try ChildProcess.run(["xfs_logprint", "-t", bench.path(step.file).string])
                #expect(judge.text.contains("state: <\(step.isClean ? "CLEAN" : "DIRTY")>"), comment)
            }
        }
    }
}
