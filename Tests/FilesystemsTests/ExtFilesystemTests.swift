// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

@Suite(.enabled(if: Tool.have("mke2fs", "debugfs", "dumpe2fs", "e2fsck"), "needs e2fsprogs"))
struct ExtFilesystemTests {
    static let cases = Array(0..<(Sample.isFull ? 150 : 14))

    /// A random filesystem with a random tree, partly deleted again: Reforge's map contains all blocks that dumpe2fs
    /// lists as used, hardly more, and e2fsck finds no errors after the rest is overwritten.
    @Test(arguments: cases) func mapHoldsAllThatDumpe2fsCallsUsed(index: Int) throws {
        var random = Sample.generator(index)
        var recipe = ExtRecipe.random(index, using: &random)
        let bench = try Workbench()
        let image = try bench.makeExt(&recipe, using: &random)
        let comment: Comment = "seed \(Sample.seed), case \(index): \(recipe)"
        let (info, map) = try bench.survey("image")
        #expect(info.mapSource == .allocationStructures, comment)
        #expect(info.wholeReason == nil, comment)
        #expect(info.isClean == true, comment)
        let dumped = try DumpedBlocks(try Tool.run(["dumpe2fs", image.string]), volumeByteCount: recipe.byteCount)
        let missing = dumped.used.ranges.filter { !map.covers($0) }
        #expect(missing == [], comment)
        #expect(info.byteCount == dumped.byteCount, comment)
        let excess = map.usedByteCount - min(map.usedByteCount, dumped.used.usedByteCount)
        #expect(excess * 200 <= dumped.byteCount, comment)
        #expect(
            try bench.opinion("image") == .found(kindName: info.kindName, uuid: info.uuid, label: info.label), comment)
        print("\(comment): over-approximation \(percent(excess, of: dumped.byteCount))")

        // debugfs does not maintain quotas, so e2fsck may report some before.
        let before = try ChildProcess.run(["e2fsck", "-fn", image.string])
        try spoilUnused(image, map)
        let after = try ChildProcess.run(["e2fsck", "-fn", image.string])
        let isAsBefore = after.text == before.text && after.ending == before.ending
        #expect(isAsBefore, "\(comment): \(after.text)")
        #expect(before.succeeded || recipe.features.contains("quota"), comment)
    }

    @Test func kindsAreThoseOfLibblkid() throws {
        let bench = try Workbench()
        for arguments in [
            ["-t", "ext2"], ["-t", "ext3"], ["-t", "ext4"], ["-t", "ext4", "-O", "^has_journal"],
            ["-t", "ext2", "-O", "meta_bg,^resize_inode"], ["-t", "ext3", "-O", "huge_file"],
        ] {
            let image = try bench.sparseFile("image", byteCount: 32 << 20)
            try Tool.run(["mke2fs", "-q", "-F"] + arguments + ["-L", "kinds", image.string])
            let (info, _) = try bench.survey("image")
            #expect(try bench.opinion("image") == .found(kindName: info.kindName, uuid: info.uuid, label: info.label))
            #expect(info.kind.rawValue == info.kindName)
            #expect(info.wholeReason == nil)
        }
        let journal = try bench.sparseFile("journal", byteCount: 16 << 20)
        try Tool.run(["mke2fs", "-q", "-F", "-O", "journal_dev", "-b", "4096", journal.string])
        let (info, map) = try bench.survey("journal")
        #expect(info.kindName == "jbd" && info.mapSource == .whole)
        #expect(map == .whole(byteCount: 16 << 20))
    }

    @Test func whatComesAfterTheFilesystemIsUsed() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 20 << 20)
        try Tool.run(["mke2fs", "-q", "-F", "-t", "ext4", image.string, "16M"])
        let (info, map) = try bench.survey("image")
        #expect(info.byteCount == 16 << 20)
        #expect(map.covers(16 << 20..<20 << 20))
        #expect(!map.covers(0..<16 << 20))
        // And a truncated one is not trusted at all.
        let file = try FileDescriptor.open(image, .readWrite)
        try Files.resize(file, "image", to: 15 << 20)
        try file.close()
        let (cut, cutMap) = try VolumeIdentifier.survey(try BlockDevice(opening: image))
        #expect(cut.wholeReason == "it is larger than its partition")
        #expect(cutMap == .whole(byteCount: 15 << 20))
    }

    /// Every reason why the bitmaps may be wrong, each in a copy of a valid filesystem.
    @Test(arguments: [
        (0x3A, 2 as UInt32, "it is marked as having errors", false),
        (0x3A, 0, "it was not cleanly unmounted", true),
        (0x60, 0x4, "its journal holds changes not yet in place", false),
        (0x60, 0x1000, "it has a feature that is not known here: incompat bit 12", false),
        (0x64, 0x80, "it has a feature that is not known here: ro_compat bit 7", false),
        (0x64, 0x10000, "deleted files in it still wait to be freed", false),
        (0x18, 7, "its block size is not valid", true),
        (0x20, 0, "the size of its block groups is not valid", true),
        (0x28, 0xFFFF_FFFF, "its inode counts are not valid", true),
        (0x4, 0xFFFF_FFFF, "it is larger than its partition", true),
        (0xFE, 7, "the size of its group descriptors is not valid", true),
    ])
    func whatMakesBitmapsUntrustworthyIsNamed(offset: Int, value: UInt32, reason: String, replaces: Bool) throws {
        let fixture = try ExtFixture.bytes()
        var bytes = fixture
        let place = 1024 + offset
        let isHalf = [0x3A, 0xFE].contains(offset)
        if isHalf {
            let old = try bytes.littleEndian(UInt16.self, at: place)
            bytes.setLittleEndian(replaces ? UInt16(value) : old | UInt16(value), at: place)
        } else {
            let old = try bytes.littleEndian(UInt32.self, at: place)
            bytes.setLittleEndian(replaces ? value : old | value, at: place)
        }
        ExtFixture.fixSuperblock(&bytes)
        let (info, map) = try VolumeIdentifier.survey(MemoryDisk(bytes))
        #expect(info.wholeReason == reason)
        #expect(info.mapSource == .whole)
        #expect(map == .whole(byteCount: UInt64(bytes.count)))
    }

    @Test func damagedMetadataIsFoundByItsChecksum() throws {
        let bytes = try ExtFixture.bytes()
        func reason(_ change: (inout [UInt8]) -> Void) throws -> String? {
            var changed = bytes
            change(&changed)
            return try VolumeIdentifier.survey(MemoryDisk(changed)).0.wholeReason
        }
        #expect(try reason { _ in } == nil)
        #expect(try reason { $0[1024 + 0x78] ^= 1 } == "the checksum of its superblock is wrong")
        // 1 KiB blocks: the descriptors are in block 2.
        #expect(try reason { $0[2048 + 0xC] ^= 1 } == "the checksum of its group descriptor 0 is wrong")
        let bitmap = Int(try bytes.littleEndian(UInt32.self, at: 2048)) * 1024
        #expect(try reason { $0[bitmap + 100] ^= 1 } == "the checksum of its block bitmap 0 is wrong")
    }

    @Test func aJournalThatIsNotEmptyCounts() throws {
        var bytes = try ExtFixture.bytes()
        let places = stride(from: 0, to: bytes.count - 1024, by: 1024).filter {
            Array(bytes[$0..<$0 + 8]) == [0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 4]
        }
        let journal = try #require(places.first)
        bytes[journal + 0x1F] = 1
        let (info, _) = try VolumeIdentifier.survey(MemoryDisk(bytes))
        #expect(info.wholeReason == "its journal holds changes not yet in place")
    }

    @Test func multiMountProtectionInUseCounts() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 16 << 20)
        try Tool.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "mmp", image.string])
        #expect(try bench.survey("image").0.wholeReason == nil)
        let bytes = try BlockDevice(opening: image).readBytes(at: 0, count: 16 << 20)
        let block = try bytes.littleEndian(UInt64.self, at: 1024 + 0x168)
        let blockSize = 1024 << (try bytes.littleEndian(UInt32.self, at: 1024 + 0x18))
        var changed = bytes
        changed.setLittleEndian(UInt32(0xE24D_4D50), at: Int(block) * blockSize + 4)
        let (info, _) = try VolumeIdentifier.survey(MemoryDisk(changed))
        #expect(info.wholeReason == "it is in use by another machine or a check")
    }

    /// 64 GiB in well under a second.
    @Test func largeFilesystemIsSurveyedQuickly() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 64 << 30)
        try Tool.run(["mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1,lazy_journal_init=1", image.string])
        let start = SystemFacts.monotonicSeconds()
        let (info, map) = try bench.survey("image")
        let seconds = SystemFacts.monotonicSeconds() - start
        print("64 GiB of ext4 (nearly empty): \(Int(seconds * 1000)) ms, \(map.ranges.count) ranges")
        #expect(info.mapSource == .allocationStructures)
        #expect(map.usedByteCount < 4 << 30)
    }
}

extension Workbench {
    /// A filesystem by this recipe with a random tree, half of whose files were deleted again.
    func makeExt(_ recipe: inout ExtRecipe, using random: inout SeededGenerator) throws -> FilePath {
        let files = try randomTree("tree", files: 60, maximumByteCount: 60_000, using: &random)
        let image = path("image")
        do {
            try sparseFile("image", byteCount: recipe.byteCount)
            try Tool.run(recipe.arguments + ["-d", path("tree").string, image.string])
        } catch {
            // mke2fs 1.47 cannot place the inodes of some last groups under bigalloc; it can for an even size.
            guard recipe.features.contains("bigalloc") else { throw error }
            recipe.byteCount = ((recipe.byteCount >> 27) + 1) << 27
            try sparseFile("image", byteCount: recipe.byteCount)
            try Tool.run(recipe.arguments + ["-d", path("tree").string, image.string])
        }
        let doomed = files.keys.sorted().filter { _ in Bool.random(using: &random) }
        let commands = doomed.map { "rm \"/\($0)\"\n" }.joined()
        try Tool.run(["debugfs", "-w", "-f", "-", image.string], input: commands)
        return image
    }
}

/// A small ext4 with checksums, made once.
enum ExtFixture {
    private static let made = Result { try make() }

    static func bytes() throws -> [UInt8] { try made.get() }

    private static func make() throws -> [UInt8] {
        let bench = try Workbench()
        var random = SeededGenerator(seed: 1)
        try bench.randomTree("tree", files: 20, maximumByteCount: 20_000, using: &random)
        let image = try bench.sparseFile("image", byteCount: 20 << 20)
        try Tool.run([
            "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-O", "64bit,metadata_csum",
            "-L", "fixture", "-d", bench.path("tree").string, image.string,
        ])
        return try BlockDevice(opening: image).readBytes(at: 0, count: 20 << 20)
    }

    /// Repairs the checksum of a changed superblock.
    static func fixSuperblock(_ bytes: inout [UInt8]) {
        let sum = ExtChecksum.crc32c(.max, Array(bytes[1024..<1024 + 0x3FC]))
        bytes.setLittleEndian(sum, at: 1024 + 0x3FC)
    }
}
