// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

@Suite(.enabled(if: Tool.have("mkfs.xfs", "xfs_db", "xfs_repair"), "needs xfsprogs"))
struct XFSFilesystemTests {
    static let cases = Array(0..<(Sample.isFull ? 100 : 10))

    /// A filesystem with random options, filled by `mkfs.xfs`: Reforge's map omits the blocks that `xfs_db` lists as
    /// free, hardly fewer, and `xfs_repair` finds no errors after the rest is overwritten.
    @Test(arguments: cases) func mapLeavesOutOnlyWhatIsFree(index: Int) throws {
        var random = Sample.generator(5000 + index)
        let recipe = XFSRecipe.random(version: index % 2 == 0 ? 4 : 5, using: &random)
        let bench = try Workbench()
        let prototype = try bench.xfsPrototype(files: 40, using: &random)
        let options = recipe.options + ["-L", "label \(index)", "-p", prototype.string]
        let image = try bench.makeXFS("image", byteCount: recipe.byteCount, options)
        let comment: Comment = "seed \(Sample.seed), case \(index): \(recipe)"
        let (info, map) = try bench.survey("image")
        try expectAgreement(bench, info, map, recipe, comment)
        #expect(info.features.first == "v\(recipe.version)", comment)
        #expect(
            try bench.opinion("image") == .found(kindName: "xfs", uuid: info.uuid, label: "label \(index)"), comment)
        try spoilUnused(image, map)
        let check = try ChildProcess.run(["xfs_repair", "-n", image.string])
        #expect(check.succeeded, "\(comment): \(check.text)")
    }

    @Test func whatComesAfterTheFilesystemIsUsed() throws {
        let bench = try Workbench()
        let image = try bench.makeXFS("image", byteCount: 64 << 20)
        let file = try FileDescriptor.open(image, .readWrite)
        defer { try? file.close() }
        try Files.resize(file, "image", to: 65 << 20)
        let (info, map) = try bench.survey("image")
        #expect(info.byteCount == 64 << 20 && info.leastByteCount == 64 << 20)
        #expect(map.covers(64 << 20..<65 << 20))
        #expect(!map.covers(0..<64 << 20))
        // And a truncated one is not trusted at all.
        try Files.resize(file, "image", to: 63 << 20)
        let (cut, cutMap) = try VolumeIdentifier.survey(try BlockDevice(opening: image))
        #expect(cut.wholeReason == "it is larger than its partition")
        #expect(cutMap == .whole(byteCount: 63 << 20))
    }

    /// States left by xfsprogs: a log reformatted in a later cycle, with any stripe, and repaired filesystems.
    /// None of them needs replay.
    @Test(arguments: [[], ["-l", "su=256k"], ["-l", "su=32k"], ["-b", "size=1024"]])
    func clearedLogsAreClean(options: [String]) throws {
        let bench = try Workbench()
        let image = try bench.makeXFS("image", byteCount: 128 << 20, ["-l", "size=24m"] + options)
        for command in [
            ["xfs_db", "-x", "-c", "uuid generate", image.string], ["xfs_repair", image.string],
            ["xfs_db", "-x", "-c", "uuid generate", image.string], ["xfs_repair", "-L", image.string],
            ["xfs_db", "-x", "-c", "label other", image.string],
        ] {
            try Tool.run(command)
            let (info, map) = try bench.survey("image")
            #expect(info.isClean == true && info.wholeReason == nil, "\(options), \(command)")
            #expect(map.usedByteCount < 64 << 20)
        }
    }

    @Test func logsAndFilesElsewhereAreNotMapped() throws {
        let bench = try Workbench()
        let log = try bench.sparseFile("log", byteCount: 64 << 20)
        try bench.makeXFS("image", byteCount: 320 << 20, ["-l", "logdev=\(log.string),size=64m"])
        let (info, map) = try bench.survey("image")
        #expect(info.kind == .xfs && info.wholeReason == "it has an external log" && info.isClean == nil)
        #expect(map == .whole(byteCount: 320 << 20))
        let (logInfo, logMap) = try bench.survey("log")
        #expect(logInfo.mapSource == .whole)
        #expect(logMap == .whole(byteCount: 64 << 20))

        let realtime = try bench.sparseFile("realtime", byteCount: 64 << 20)
        try bench.makeXFS(
            "image", byteCount: 320 << 20, ["-m", "reflink=0,rmapbt=0", "-r", "rtdev=\(realtime.string)"])
        #expect(try bench.survey("image").0.wholeReason == "it has a realtime device")
    }

    /// Every reason why the trees may be wrong, each in a copy of a valid filesystem.
    @Test(arguments: [
        (126, 1, 1, "it was not finished when it was made"),
        (216, 4, 0x10, "it is marked as in need of a repair"),
        (216, 4, 0x101, "it has a feature that is not mapped here: metadir"),
        (216, 4, 0x800, "it has a feature that is not mapped here: incompat bit 11"),
        (212, 4, 0x10, "it has a feature that is not mapped here: ro_compat bit 4"),
        (220, 4, 0x2, "its log has a feature that is not known here"),
        (16, 8, 7, "it has a realtime device"),
        (48, 8, 0, "it has an external log"),
        (48, 8, 0xFFFF_FFFF, "the place of its log is not valid"),
        (4, 4, 0x800, "its block or sector size is not valid"),
        (84, 4, 16, "the size of its allocation groups is not valid"),
        (88, 4, 77, "the number of its allocation groups is not valid"),
    ])
    func whatMakesTreesUntrustworthyIsNamed(offset: Int, width: Int, value: Int, reason: String) throws {
        var bytes = try XFSFixture.version5.get()
        let encoded = (0..<width).map { UInt8(truncatingIfNeeded: value >> (8 * (width - 1 - $0))) }
        bytes.replaceSubrange(offset..<offset + width, with: encoded)
        XFSFixture.mend(&bytes, at: 0, count: 512, field: XFSChecksum.superblockOffset)
        let (info, map) = try VolumeIdentifier.survey(MemoryDisk(bytes))
        #expect(info.wholeReason == reason)
        #expect(map == .whole(byteCount: UInt64(bytes.count)))
    }

    @Test func damagedMetadataIsFound() throws {
        let fixture = try XFSFixture.version5.get()
        func reason(_ change: (inout PatchedReader) throws -> Void) throws -> String? {
            var reader = PatchedReader(fixture)
            try change(&reader)
            return try VolumeIdentifier.survey(reader).0.wholeReason
        }
        let places = try XFSFixture.places(fixture)
        #expect(try reason { _ in } == nil)
        #expect(try reason { $0.flip(110) } == "the checksum of its superblock is wrong")
        #expect(
            try reason { $0.flip(512 + 130) } == "the checksum of the header of its allocation group 0 is wrong")
        #expect(
            try reason { $0.flip(3 * 512 + 500) } == "the checksum of the free list of its allocation group 0 is wrong")
        let tree = places.trees[0]
        #expect(
            try reason { $0.flip(tree + 700) } == "the checksum of a free-space tree of its allocation group 0 is wrong"
        )
        // With correct checksums: a record with a smaller count, and one that moves.
        #expect(
            try reason {
                try $0.change(tree + 63, by: -1)
                try XFSFixture.mend(&$0, at: tree, count: 4096, field: XFSChecksum.treeBlockOffset)
            } == "a free-space tree contradicts the free blocks that are counted for its group 0")
        #expect(
            try reason {
                try $0.change(tree + 59, by: 1)
                try $0.change(tree + 63, by: -1)
                try $0.change(512 + 55, by: -1)
                try XFSFixture.mend(&$0, at: tree, count: 4096, field: XFSChecksum.treeBlockOffset)
                try XFSFixture.mend(&$0, at: 512, count: 512, field: XFSChecksum.groupHeaderOffset)
            } == "a free-space tree contradicts the free blocks that are counted for its group 0")
    }

    /// 4 TiB in little time: the trees of an empty filesystem are small, and only the part of a
    /// log near its head is read.
    @Test func largeFilesystemIsSurveyedQuickly() throws {
        let bench = try Workbench()
        try bench.makeXFS("image", byteCount: 4 << 40)
        let start = SystemFacts.monotonicSeconds()
        let (info, map) = try bench.survey("image")
        let seconds = SystemFacts.monotonicSeconds() - start
        print("4 TiB of XFS (empty): \(Int(seconds * 1000)) ms, \(map.ranges.count) ranges")
        #expect(info.mapSource == .allocationStructures)
        #expect(map.usedByteCount < 4 << 30)
    }
}

/// Reforge's map compared with the list of `xfs_db`: the difference is exactly the blocks of the free lists.
func expectAgreement(
    _ bench: Workbench, _ info: FilesystemInfo, _ map: AllocationMap, _ recipe: XFSRecipe, _ comment: Comment
) throws {
    #expect(info.mapSource == .allocationStructures && info.wholeReason == nil, comment)
    #expect(info.isClean == true && info.blockSize == recipe.blockSize, comment)
    guard info.mapSource == .allocationStructures else { return }
    let (theirs, freeList) = try bench.xfsFree("image", blockSize: recipe.blockSize)
    let byteCount = info.byteCount ?? 0
    let ours = map.complement
    #expect(ours.isSubset(of: theirs), comment)
    let excess = theirs.usedByteCount - min(theirs.usedByteCount, ours.usedByteCount)
    #expect(excess == freeList * UInt64(recipe.blockSize), comment)
    #expect(excess * 200 <= byteCount, comment)
    print("\(comment): \(theirs.ranges.count) free extents, over-approximation \(percent(excess, of: byteCount))")
}
