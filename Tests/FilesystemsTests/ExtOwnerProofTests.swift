// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// False maps of ext filesystems: e2fsprogs' own damaged images f_uninit_set_inode_not_set and
/// f_uninit_blk_used_not_set, built by hand, and bitmaps and counts that agree on a wrong value.
@Suite(.enabled(if: Tool.have("mke2fs", "debugfs", "e2fsck"), "needs e2fsprogs"))
struct ExtOwnerProofTests {
    private static let byteCount = 12 << 20

    /// Six groups, of which the files need three; with or without inodes whose checksum is in two halves.
    private static func shape(_ features: String) -> [String] {
        let inodeSize = features.contains("inline_data") || features.contains("64bit,^flex_bg") ? "256" : "128"
        let groups = features.contains("bigalloc") ? [] : ["-g", "2048"]
        return groups + ["-I", inodeSize, "-N", "192"]
    }

    /// The bytes of a filesystem with small files, a file of many pieces, a long symbolic link, and extended
    /// attributes in their own block.
    private static func make(_ bench: Workbench, _ kind: String, _ features: String) throws -> [UInt8] {
        var random = SeededGenerator(seed: 11)
        try bench.randomTree("tree", files: 60, maximumByteCount: 30_000, using: &random)
        // Every second block of it is a hole: each piece is a separate extent.
        let pieces = try bench.sparseFile("tree/pieces", byteCount: 1 << 20)
        let file = try FileDescriptor.open(pieces, .readWrite)
        for start in stride(from: 0, to: 1 << 20, by: 8192) {
            _ = try file.writeAll(toAbsoluteOffset: Int64(start), [UInt8](repeating: 0xA5, count: 1024))
        }
        try file.close()
        let target = String(repeating: "long/", count: 40)
        try Tool.run(["ln", "-s", target, bench.path("tree/link").string])
        let image = try bench.sparseFile("image", byteCount: UInt64(byteCount))
        try Tool.run(
            [
                "mke2fs", "-q", "-F", "-t", kind, "-b", "1024", "-O", features, "-d", bench.path("tree").string,
            ] + shape(features) + [image.string])
        let value = String(repeating: "v", count: 200)
        try Tool.run(["debugfs", "-w", "-R", "ea_set /pieces user.note \(value)", image.string])
        return try BlockDevice(opening: image).readBytes(at: 0, count: byteCount)
    }

    /// The inode of a path, and all its blocks, including those of its extents and attributes.
    private static func owned(_ image: FilePath, _ path: String) throws -> (inode: Int, blocks: [UInt64]) {
        let text = try Tool.run(["debugfs", "-R", "stat \(path)", image.string])
        func number(after mark: String) -> UInt64? {
            text.range(of: mark).flatMap { UInt64(text[$0...].prefix { $0.isNumber }) }
        }
        let listed = try Tool.run(["debugfs", "-R", "blocks \(path)", image.string])
        var blocks = listed.split { $0 == " " || $0 == "\n" }.compactMap { UInt64($0) }
        if let attributes = number(after: "File ACL: "), attributes > 0 { blocks.append(attributes) }
        return (Int(number(after: "Inode: ") ?? 0), blocks)
    }

    /// Each kind of owner and each kind of block: data, extents, block numbers, attributes, folders, links.
    @Test(arguments: [
        ("ext2", "^resize_inode,ext_attr"), ("ext3", "dir_index"), ("ext4", "^metadata_csum,uninit_bg,^64bit"),
        ("ext4", "metadata_csum,64bit"), ("ext4", "metadata_csum,64bit,bigalloc,^resize_inode"),
        ("ext4", "^metadata_csum,^uninit_bg,inline_data"),
    ])
    func aBlockThatIsCalledFreeAndHasAnOwnerIsFound(kind: String, features: String) throws {
        let bench = try Workbench()
        let sound = try ExtLies(try Self.make(bench, kind, features))
        #expect(try sound.reason() == nil)
        let image = bench.path("image")
        for path in ["/pieces", "/link", "/lost+found", "<8>", "<2>"] {
            let (inode, blocks) = try Self.owned(image, path)
            if path == "<8>", inode == 0 || blocks.isEmpty { continue }
            // Its contents are in its inode.
            if features.contains("inline_data"), blocks.isEmpty { continue }
            try #require(inode > 0 && !blocks.isEmpty, "\(path)")
            var tried = Set(blocks.prefix(2) + blocks.suffix(3))
            if path == "/pieces" { tried.formUnion(blocks) }
            for block in tried.sorted() {
                var lies = sound
                try lies.free(block: block)
                guard lies.bytes != sound.bytes else { continue }
                // Accepted before.
                #expect(try lies.reason(trustMaps: true) == nil)
                let reason = try lies.reason()
                let text: Comment = "\(kind) \(features) \(path) \(block): \(reason ?? "believed")"
                #expect(reason?.hasSuffix(", which the block bitmap calls free") == true, text)
                #expect(reason?.hasPrefix("inode ") == true, text)
                if sound.superblock.clusterRatio == 1 {
                    #expect(reason == "inode \(inode) uses block \(block), which the block bitmap calls free", text)
                }
            }
        }
    }

    /// f_uninit_set_inode_not_set: a group flagged as if none of its inodes was ever used, although it has files.
    @Test(arguments: ["^metadata_csum,uninit_bg,^64bit", "metadata_csum,64bit", "metadata_csum,64bit,^flex_bg"])
    func aGroupWithFilesThatIsFlaggedUnusedIsFound(features: String) throws {
        let bench = try Workbench()
        let sound = try ExtLies(try Self.make(bench, "ext4", features))
        let (info, soundMap) = try VolumeIdentifier.survey(MemoryDisk(sound.bytes))
        #expect(info.wholeReason == nil)
        var lossCount = 0
        for group in 0..<2 {
            for isZeroed in [true, false] {
                var lies = sound
                // Only the flag: the blocks are still in the map, and nothing is lost.
                try lies.flag(group, 1)
                if !isZeroed { try lies.forgetZeroed(group) }
                #expect(try lies.reason() == nil, "group \(group)")
                // f_uninit_blk_used_not_set: with the flag for blocks too, so that none is read from the bitmap.
                var both = lies
                try both.flag(group, 2)
                let believed = try VolumeIdentifier.survey(MemoryDisk(both.bytes), trustMaps: true).1
                guard soundMap.ranges.contains(where: { !believed.covers($0) }) else {
                    // Its files' blocks are in other groups.
                    #expect(try both.reason() == nil)
                    continue
                }
                lossCount += 1
                let reason = try both.reason()
                #expect(reason?.contains("group \(group) is flagged as never used") == true, "\(reason ?? "believed")")
                // And with matching counts: only the files show it.
                try both.flag(group, 2, freeBlockCount: 60_000)
                #expect(try both.reason(trustMaps: true) == nil)
                let found = try both.reason()
                #expect(found?.hasPrefix("inode ") == true, "\(found ?? "believed")")
            }
        }
        #expect(lossCount >= 2)
    }

    /// Remains of an earlier filesystem in inode tables that were not cleared own no blocks.
    @Test(arguments: ["^metadata_csum,uninit_bg", "metadata_csum"])
    func inodesOfAnEarlierFilesystemOwnNothing(features: String) throws {
        let bench = try Workbench()
        _ = try Self.make(bench, "ext4", features)
        let image = bench.path("image").string
        try Tool.run(
            [
                "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-O", features, "-E", "lazy_itable_init=1,nodiscard",
            ] + Self.shape(features) + [image])
        try bench.write([UInt8](repeating: 0x42, count: 5000), to: bench.path("file"))
        try Tool.run(["debugfs", "-w", "-R", "write \(bench.path("file").string) file", image])
        let made = try ExtLies(try BlockDevice(opening: bench.path("image")).readBytes(at: 0, count: Self.byteCount))
        // The older inodes are there.
        let table = try made.inodeTable(1)
        #expect(ExtInode.isInUse(made.bytes, at: table))
        #expect(try made.reason() == nil)
        // A file whose group is flagged is found through its name.
        let (inode, blocks) = try Self.owned(bench.path("image"), "/file")
        var lies = made
        try lies.flag(0, 1)
        for block in blocks { try lies.free(block: block) }
        #expect(
            try lies.reason() == "inode \(inode) uses block \(blocks[0]), which the block bitmap calls free")
    }

    /// Where a large filesystem has few files, only the start of its unused tables is checked; a wrong
    /// flag is found nevertheless.
    @Test func tablesOfALargeFilesystemAreProbed() throws {
        let bench = try Workbench()
        try Files.makeFolders(bench.path("tree"))
        try bench.write([UInt8](repeating: 0x42, count: 50_000), to: bench.path("tree/file"))
        let image = try bench.sparseFile("image", byteCount: 64 << 30)
        try Tool.run([
            "mke2fs", "-q", "-F", "-t", "ext4", "-J", "size=4", "-E", "lazy_itable_init=1", "-d",
            bench.path("tree").string, image.string,
        ])
        let (sound, map) = try bench.survey("image")
        #expect(sound.wholeReason == nil)
        let (_, blocks) = try Self.owned(image, "/file")
        let disk = try BlockDevice(opening: image)
        let file = try FileDescriptor.open(image, .readWrite)
        defer { try? file.close() }
        // All metadata of the first group is before its data.
        let head = try disk.readBytes(at: 0, count: Int((blocks[0] + 1) * 4096))
        var lies = try ExtLies(head)
        try lies.flag(0, 1)
        for block in blocks { try lies.free(block: block) }
        _ = try file.writeAll(toAbsoluteOffset: 0, lies.bytes)
        let counted = CountingReader(try BlockDevice(opening: image))
        let (found, _) = try VolumeIdentifier.survey(counted)
        #expect(found.wholeReason?.hasSuffix("uses block \(blocks[0]), which the block bitmap calls free") == true)
        _ = try file.writeAll(toAbsoluteOffset: 0, head)
        let again = CountingReader(try BlockDevice(opening: image))
        #expect(try VolumeIdentifier.survey(again).1 == map)
        // 1 GiB of inode tables.
        #expect(again.byteCountRead < 100 << 20, "\(again.byteCountRead)")
    }
}

/// Counts the bytes read.
private final class CountingReader: BlockReader, @unchecked Sendable {
    private let base: BlockDevice
    private(set) var byteCountRead = 0
    var byteCount: UInt64 { base.byteCount }
    var logicalSectorSize: Int { base.logicalSectorSize }
    var name: String { base.name }

    init(_ base: BlockDevice) { self.base = base }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        byteCountRead += buffer.count
        try base.read(into: buffer, at: offset)
    }
}

extension String {
    /// The start of the text after the first `mark`.
    fileprivate func range(of mark: String) -> String.Index? {
        var place = startIndex
        while place < endIndex {
            if self[place...].hasPrefix(mark) { return index(place, offsetBy: mark.count) }
            place = index(after: place)
        }
        return nil
    }
}
