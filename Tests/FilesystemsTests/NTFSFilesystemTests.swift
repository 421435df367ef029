// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// NTFS made by mkntfs and filled by ntfs-3g. (One written by Windows, or by the kernel's
/// ntfs3, is not available here.)
@Suite(
    .enabled(
        if: SystemFacts.isRoot && Files.exists("/dev/fuse")
            && Tool.have("mkntfs", "ntfs-3g", "ntfscat", "ntfsresize", "ntfsfix", "losetup", "getfattr", "umount"),
        "needs root, /dev/fuse and ntfs-3g"))
struct NTFSFilesystemTests {
    static let cases = Array(0..<(Sample.isFull ? 60 : 6))

    /// Checks a map against ntfs-3g's view of the bitmap, and of its files with all other bytes overwritten.
    private func judge(
        _ bench: Workbench, _ image: FilePath, _ disk: LoopedNTFS, contents: String, _ comment: Comment
    ) throws -> FilesystemInfo {
        #expect(contents.utf8.count > 4000 && contents.contains("  ./"), comment)
        let (info, map) = try bench.survey("image")
        #expect(info.kind == .ntfs && info.isClean == true, comment)
        #expect(info.mapSource == .allocationStructures && info.wholeReason == nil, comment)
        #expect(try bench.opinion("image") == .found(kindName: "ntfs", uuid: info.uuid, label: info.label), comment)
        let byteCount = map.byteCount
        let boot = try #require(
            try NTFSBootSector(try BlockDevice(opening: image).readBytes(at: 0, count: 512)), comment)
        let theirs = try ExtractedBitmap(image, boot, volumeByteCount: byteCount).used
        #expect(theirs.isSubset(of: map), comment)
        // The rest is behind the last cluster.
        let more = map.usedByteCount - theirs.usedByteCount
        #expect(more == byteCount - boot.clusterEnd, comment)
        #expect(map.covers(boot.clusterEnd..<byteCount), comment)
        print(
            "\(comment): used \(percent(map.usedByteCount, of: byteCount)), more than the bitmap by",
            percent(more, of: theirs.usedByteCount))
        try leastSizeSuffices(image, info, comment)

        // On a full volume ntfs-3g itself leaves clusters in the bitmap that no file has (2 of 40 runs of the tools
        // alone): then the same ones must be found again.
        let sound = try ChildProcess.run(["ntfsresize", "--info", "--force", disk.loop], timeoutSeconds: 60)
        let isLeaky = sound.text.contains("extra cluster in $Bitmap")
        try spoilUnused(FilePath(disk.loop), map)
        let check = try ChildProcess.run(["ntfsfix", "-n", disk.loop], timeoutSeconds: 60)
        #expect(check.succeeded, "\(comment): \(check.text)")
        // Checks all clusters of all files.
        let account = try ChildProcess.run(["ntfsresize", "--info", "--force", disk.loop], timeoutSeconds: 60)
        #expect(
            account.succeeded || isLeaky && account.text == sound.text && account.errorText == sound.errorText
                || account.lastWords.contains("Volume is full") || account.lastWords.contains("fragmentation"),
            "\(comment): \(account.text)\(account.lastWords)")
        #expect(try disk.mounted("ro", LoopedNTFS.listing) == contents, comment)
        return info
    }

    /// ntfsresize requires less, and would shrink to that.
    private func leastSizeSuffices(_ image: FilePath, _ info: FilesystemInfo, _ comment: Comment) throws {
        guard let least = info.leastByteCount else { return }
        let advice = try Tool.run(["ntfsresize", "--info", "--force", image.string])
        let words = advice.split { " \n".contains($0) }
        let place = try #require(words.firstIndex(of: "resize"), "\(comment): \(advice)")
        let theirs = try #require(UInt64(words[place + 2]), "\(comment): \(advice)")
        #expect(theirs <= least, comment)
        let trial = try ChildProcess.run(
            ["ntfsresize", "--no-action", "--force", "--size", "\(least)", image.string], timeoutSeconds: 60)
        #expect(trial.succeeded, "\(comment): \(trial.text)")
    }

    /// Random options, and a random tree with holes, named streams, compressed and sparse files.
    @Test(arguments: cases) func mapIsWhatTheToolsSay(index: Int) throws {
        var random = Sample.generator(9000 + index)
        let bench = try Workbench()
        let recipe = NTFSRecipe.random(index, using: &random)
        let comment: Comment = "seed \(Sample.seed), NTFS \(index): \(recipe)"
        let image = try recipe.make(bench)
        let disk = try LoopedNTFS(bench, image)
        try bench.randomTree("tree", files: 80, maximumByteCount: 60_000, using: &random)
        let contents = try disk.mounted(
            "rw,compression",
            """
            mkdir packed && setfattr -h -n system.ntfs_attrib_be -v 0x00000800 packed
            for i in 1 2 3; do yes "a line that is packed $i" | head -c 200000 > packed/$i; done
            truncate -s 30M sparse
            for i in 3 70 1000; do echo text | dd of=sparse bs=4096 seek=$i conv=notrunc status=none; done
            cp -r ../tree . && find tree -name '*[13579].data' -delete
            for i in 1 2 3; do setfattr -n user.stream$i -v "$(head -c 3000 /dev/zero | tr '\\0' $i)" packed/$i; done
            echo 'a second name' > first && ln first second
            \(LoopedNTFS.listing)
            """)
        let info = try judge(bench, image, disk, contents: contents, comment)
        // Some 5 MB are used.
        if recipe.byteCount > 48 << 20, recipe.clusterSize <= 32768 { #expect(info.leastByteCount != nil, comment) }
        #expect(info.label == recipe.label && info.blockSize == recipe.clusterSize, comment)
        #expect(info.sectorSize == recipe.sectorSize && info.features == ["version 3.1"], comment)
    }

    /// ntfs-3g does not mark a volume while it is mounted. After a crash, a copy by the map shows as
    /// much as a copy of all bytes.
    @Test(arguments: [true, false]) func aCrashLosesNoMore(isQuiet: Bool) throws {
        var random = Sample.generator(9100)
        let bench = try Workbench()
        let image = try NTFSRecipe(byteCount: 40 << 20, clusterSize: 1024).make(bench)
        let disk = try LoopedNTFS(bench, image)
        try bench.randomTree("tree", files: 80, maximumByteCount: 60_000, using: &random)
        try disk.mounted(
            "rw",
            """
            cp -r ../tree . && sync tree/*.data && sync -f .
            \(isQuiet ? "" : "head -c 3000000 /dev/urandom | split -b 3000 -a 4 - late")
            cp --sparse=always ../image ../crashed && cp --sparse=always ../image ../spoiled
            """)
        let (info, map) = try bench.survey("crashed")
        let comment: Comment = "seed \(Sample.seed): \(info)"
        print("NTFS copied while it was mounted\(isQuiet ? "" : " and written to"): \(info.wholeReason ?? "mapped")")
        try spoilUnused(bench.path("spoiled"), map)
        var listings: [String] = []
        for name in ["crashed", "spoiled"] {
            listings.append(try LoopedNTFS(bench, bench.path(name)).mounted("rw", LoopedNTFS.listing))
        }
        #expect(listings[0] == listings[1], comment)
        if isQuiet { #expect(listings[0].split(separator: "\n").count >= 80, comment) }
    }

    /// A master file table in hundreds of fragments, so that it needs an attribute list.
    @Test(arguments: [512]) func fragmentedMasterFileTable(clusterSize: Int) throws {
        let bench = try Workbench()
        let recipe = NTFSRecipe(byteCount: 12 << 20, clusterSize: clusterSize)
        let comment: Comment = "NTFS with clusters of \(clusterSize) and an MFT in fragments"
        let image = try recipe.make(bench)
        let disk = try LoopedNTFS(bench, image)
        // Fill it with small files and one large one, then remove every second small one.
        let contents = try disk.mounted(
            "rw",
            """
            head -c 6000000 /dev/urandom | split -b 3000 -a 4 - f
            cat /dev/zero > filler 2> /dev/null
            ls f[a-z]??? | awk 'NR % 2' | xargs rm
            i=0; while [ $i -lt 4200 ]; do echo $i > small$i || break; i=$((i + 1)); done 2> /dev/null
            ls f[a-z]??? | awk 'NR % 2' | xargs rm
            i=0; while [ $i -lt 200 ]; do echo $i > little$i || break; i=$((i + 1)); done 2> /dev/null
            head -c 200000 /dev/urandom > PageFile.sys
            \(LoopedNTFS.listing)
            """
        )
        let reader = try BlockDevice(opening: image)
        let boot = try #require(try NTFSBootSector(try reader.readBytes(at: 0, count: 512)))
        let table = try NTFSMasterFileTable(reader, boot)
        let hasList = try table.record(.masterFileTable).attributes.contains { $0.type == 0x20 }
        print("\(comment): \(table.contents.ranges.count) fragments, attribute list \(hasList)")
        #expect(table.contents.ranges.count > 30, comment)
        if clusterSize == 512 { #expect(hasList, comment) }
        _ = try judge(bench, image, disk, contents: contents, comment)

        // The page file is fragmented too; without it, all other files are unchanged.
        let (_, less) = try VolumeIdentifier.survey(reader, skipPageFiles: true)
        let skipped = try NTFSFilesystem.pageFileRanges(reader)
        #expect(skipped.count > 5 && skipped.allSatisfy { less.ranges(in: $0).isEmpty }, comment)
        try spoilUnused(FilePath(disk.loop), less)
        func others(_ listing: String) -> [Substring] {
            listing.split(separator: "\n").filter { !$0.hasSuffix(".sys") }
        }
        let after = try disk.mounted("ro", LoopedNTFS.listing)
        #expect(others(after) == others(contents) && after != contents, comment)
    }
}
