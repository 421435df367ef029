// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

@Suite(.enabled(if: Tool.have("mkfs.f2fs", "sload.f2fs", "fsck.f2fs", "dump.f2fs"), "needs f2fs-tools"))
struct F2FSTests {
    static let cases = Array(0..<(Sample.isFull ? 30 : 5))
    private static let options: [[String]] = [
        [], ["-O", "extra_attr,inode_checksum,sb_checksum"], ["-O", "extra_attr,compression"],
        ["-O", "encrypt,verity,extra_attr,project_quota,inode_crtime,quota"], ["-s", "2"], ["-w", "4096"],
        ["-O", "lost_found,casefold", "-C", "utf8"],
    ]

    /// A filesystem with a random tree: Reforge's map equals `dump.f2fs`'s list of each segment, everything around the
    /// main area counts, and fsck.f2fs finds no errors after the rest is overwritten.
    @Test(arguments: cases) func mapIsTheSegmentTable(index: Int) throws {
        var random = Sample.generator(5800 + index)
        let bench = try Workbench()
        let options = Self.options[(index + Int(Sample.seed % 7)) % Self.options.count]
        let byteCount = (UInt64(Int.random(in: 120...260, using: &random)) << 20) + 512 * 5
        let comment: Comment = "seed \(Sample.seed), case \(index): \(options) \(ByteText.rounded(byteCount))"
        let image = try bench.sparseFile("image", byteCount: byteCount)
        try Tool.run(["mkfs.f2fs", "-q", "-l", "label \(index)"] + options + [image.string])
        try bench.randomTree("tree", files: 80, maximumByteCount: 60_000, using: &random)
        try Tool.run(["sload.f2fs", "-f", bench.path("tree").string, image.string])
        let lost = index == 0 ? 0 : try Self.loseFiles(image, using: &random)
        let (info, map) = try bench.survey("image")
        #expect(info.kind == .f2fs && info.mapSource == .allocationStructures, "\(comment): \(info)")
        #expect(info.isClean == true && info.blockSize == 4096, comment)
        #expect(try bench.opinion("image") == .found(kindName: "f2fs", uuid: info.uuid, label: info.label), comment)

        let (dumped, mainStart) = try Self.dump(bench, image, byteCount: byteCount)
        #expect(dumped.isSubset(of: map), comment)
        #expect(map == dumped, comment)
        print(
            "\(comment): \(lost) files lost, \(map.ranges.count) ranges, \(ByteText.rounded(map.usedByteCount - mainStart)) in the main area"
        )

        let before = try Self.check(bench, image)
        #expect(before.succeeded, "\(comment): \(before.text)")
        try spoilUnused(image, map)
        let after = try Self.check(bench, image)
        let isAsBefore = after.succeeded && after.text == before.text
        #expect(isAsBefore, "\(comment): \(after.text)")
    }

    /// The kernel here has no F2FS to delete files: inodes are blanked, and fsck.f2fs frees their blocks.
    private static func loseFiles(_ image: FilePath, using random: inout SeededGenerator) throws -> Int {
        let layout = try Layout(image)
        var lost = 0
        do {
            let disk = try BlockDevice(opening: image, .exclusiveWrite)
            for block in layout.main..<layout.main + layout.segments * 512 {
                let node = try disk.readBytes(at: block * 4096, count: 4096)
                let number = try node.littleEndian(UInt32.self, at: 4072)
                guard try number == node.littleEndian(UInt32.self, at: 4076), number > 3, number < 10_000,
                    try node.littleEndian(UInt16.self, at: 0) & 0xF000 == 0x8000,
                    Int.random(in: 0..<5, using: &random) < 2
                else { continue }
                try disk.writeBytes([UInt8](repeating: 0, count: 4096), at: block * 4096)
                lost += 1
            }
        }
        for _ in 0..<3 {
            // It asks whether to keep nodes without a name.
            let output = try ChildProcess.run(
                ["sh", "-c", "yes n | fsck.f2fs -f \"$1\"", "sh", image.string], timeoutSeconds: 120)
            if output.succeeded { return lost }
        }
        throw ToolFailure(description: "fsck.f2fs does not come to an end")
    }

    /// The layout, read independently of the code under test.
    private struct Layout {
        let checkpoint: UInt64
        let sit: UInt64
        let sitBlocks: UInt64
        let main: UInt64
        let segments: UInt64

        init(_ image: FilePath) throws {
            let bytes = try BlockDevice(opening: image).readBytes(at: 1024, count: 3072)
            func word(_ offset: Int) throws -> UInt64 { UInt64(try bytes.littleEndian(UInt32.self, at: offset)) }
            checkpoint = try word(76)
            sit = try word(80)
            sitBlocks = try word(56) * 256
            main = try word(92)
            segments = try word(68)
        }
    }

    /// mkfs.f2fs leaves a compact summary with a journal; fsck.f2fs and the kernel also write the other form.
    @Test func theJournalIsNewerThanTheTable() throws {
        var random = Sample.generator(5850)
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 120 << 20)
        try Tool.run(["mkfs.f2fs", "-q", image.string])
        let (fresh, freshMap) = try bench.survey("image")
        let flags = try F2FSCheckpoint.live(try BlockDevice(opening: image), Self.superblock(image)).flags
        #expect(fresh.mapSource == .allocationStructures && flags & F2FSCheckpoint.Flag.compactSummary != 0)
        #expect(freshMap == (try Self.dump(bench, image, byteCount: 120 << 20).0))

        try bench.randomTree("tree", files: 20, maximumByteCount: 60_000, using: &random)
        try Tool.run(["sload.f2fs", "-f", bench.path("tree").string, image.string])
        let (info, map) = try bench.survey("image")
        let live = try F2FSCheckpoint.live(try BlockDevice(opening: image), Self.superblock(image))
        #expect(info.mapSource == .allocationStructures && live.flags & F2FSCheckpoint.Flag.compactSummary == 0)
        // The entries of used segments move from the table to the journal.
        let layout = try Layout(image)
        do {
            let disk = try BlockDevice(opening: image, .exclusiveWrite)
            var journal: [UInt8] = []
            for segment in 0..<min(55, layout.segments) {
                let place = segment * 74
                let copies = [layout.sit * 4096 + place, (layout.sit + layout.sitBlocks) * 4096 + place]
                let entries = try copies.map { try disk.readBytes(at: $0, count: 74) }
                let isSecond = live.sitVersions[0] & 0x80 != 0
                let entry = entries[isSecond ? 1 : 0]
                guard entry[2..<66].contains(where: { $0 != 0 }), journal.count < 6 * 78 else { continue }
                journal.appendLittleEndian(UInt32(segment))
                journal += entry
                for copy in copies { try disk.writeBytes([UInt8](repeating: 0, count: 74), at: copy) }
            }
            var count: [UInt8] = []
            count.appendLittleEndian(UInt16(journal.count / 78))
            #expect(journal.count >= 2 * 78)
            for pack in [layout.checkpoint, layout.checkpoint + 512] {
                let head = try disk.readBytes(at: pack * 4096, count: 4096)
                let blocks = UInt64(try head.littleEndian(UInt32.self, at: 136))
                try disk.writeBytes(count + journal, at: (pack + blocks - 5) * 4096 + 3584)
            }
        }
        let (moved, movedMap) = try bench.survey("image")
        #expect(moved.mapSource == .allocationStructures && movedMap == map, "\(moved)")
        #expect(movedMap == (try Self.dump(bench, image, byteCount: 120 << 20).0))
        #expect(try Self.check(bench, image).succeeded)
    }

    /// Blocks that files reserved and never wrote are counted by the checkpoint, and have no place: fsck.f2fs accepts
    /// the filesystem built here. With a count higher by one, the table is not trusted.
    @Test func reservedBlocksAreCounted() throws {
        var random = Sample.generator(5870)
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 120 << 20)
        try Tool.run(["mkfs.f2fs", "-q", image.string])
        try bench.randomTree("tree", files: 30, maximumByteCount: 60_000, using: &random)
        let large = (0..<5 << 20).map { _ in UInt8.random(in: 0...255, using: &random) }
        try Files.write(large, to: bench.path("tree").appending("large"))
        try Tool.run(["sload.f2fs", "-f", bench.path("tree").string, image.string])
        let (info, map) = try bench.survey("image")
        #expect(info.mapSource == .allocationStructures)

        let layout = try Layout(image)
        let live = try F2FSCheckpoint.live(try BlockDevice(opening: image), Self.superblock(image))
        var (reserved, inDirectNodes) = (0 as UInt64, 0)
        do {
            let disk = try BlockDevice(opening: image, .exclusiveWrite)
            func node(_ block: UInt64) throws -> [UInt8] { try disk.readBytes(at: block * 4096, count: 4096) }
            /// Turns some of the zero words into reservations; returns their number.
            func reserve(_ words: Range<Int>, in bytes: inout [UInt8]) throws -> UInt64 {
                var made: UInt64 = 0
                for word in words where try bytes.littleEndian(UInt32.self, at: word * 4) == 0 {
                    guard Int.random(in: 0..<9, using: &random) == 0 else { continue }
                    bytes.setLittleEndian(UInt32.max, at: word * 4)
                    made += 1
                }
                return made
            }
            var owners: [UInt32: UInt64] = [:]
            var added: [UInt32: UInt64] = [:]
            let blocks = layout.main..<layout.main + layout.segments * 512
            for block in blocks where map.ranges.contains(where: { $0.contains(block * 4096) }) {
                var bytes = try node(block)
                let (number, owner) = (
                    try bytes.littleEndian(UInt32.self, at: 4072), try bytes.littleEndian(UInt32.self, at: 4076)
                )
                // The version in the footer distinguishes nodes from data.
                guard try bytes.littleEndian(UInt64.self, at: 4084) == live.version, number > 3, owner > 3,
                    number < 1000, owner < 1000
                else { continue }
                if number == owner {
                    owners[owner] = block
                    guard try bytes.littleEndian(UInt16.self, at: 0) & 0xF000 == 0x8000, bytes[3] & 0x06 == 0 else {
                        continue
                    }
                    added[owner, default: 0] += try reserve(90..<890, in: &bytes)
                } else {
                    let made = try reserve(0..<1018, in: &bytes)
                    added[owner, default: 0] += made
                    inDirectNodes += Int(made)
                }
                try disk.writeBytes(bytes, at: block * 4096)
            }
            for (owner, count) in added where count > 0 {
                let block = try #require(owners[owner])
                var bytes = try node(block)
                bytes.setLittleEndian(try bytes.littleEndian(UInt64.self, at: 24) + count, at: 24)  // i_blocks
                try disk.writeBytes(bytes, at: block * 4096)
                reserved += count
            }
        }
        func count(_ blocks: UInt64) throws {
            let disk = try BlockDevice(opening: image, .exclusiveWrite)
            for block in [live.start, live.start + live.blockCount - 1] {
                var bytes = try disk.readBytes(at: block * 4096, count: 4096)
                bytes.setLittleEndian(blocks, at: 16)
                bytes.setLittleEndian(F2FSCheckpoint.checksum(Array(bytes[..<4092])), at: 4092)
                try disk.writeBytes(bytes, at: block * 4096)
            }
        }
        #expect(reserved > 100 && inDirectNodes > 10, "\(reserved) reserved, \(inDirectNodes) of them in direct nodes")
        try count(live.validBlockCount + reserved)
        let checked = try Self.check(bench, image)
        #expect(checked.succeeded && !checked.text.contains("[FIX]"), "\(checked.text)")
        let (found, foundMap) = try bench.survey("image")
        #expect(found.mapSource == .allocationStructures, "\(found)")
        #expect(foundMap == map)
        for wrong in [reserved - 1, reserved + 1] {
            try count(live.validBlockCount + wrong)
            let reason = try bench.survey("image").0.wholeReason
            #expect(reason == "its SIT does not count as many blocks as its checkpoint")
        }
    }

    private static func superblock(_ image: FilePath) throws -> F2FSSuperblock {
        try #require(try F2FSSuperblock(try BlockDevice(opening: image).readBytes(at: 1024, count: 3072)))
    }

    /// Every reason why the table may be wrong.
    @Test func whatMakesTheTableUntrustworthyIsNamed() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 120 << 20)
        try Tool.run(["mkfs.f2fs", "-q", "-O", "extra_attr,sb_checksum", image.string])
        let layout = try Layout(image)
        let live = try F2FSCheckpoint.live(try BlockDevice(opening: image), Self.superblock(image))
        func patched(_ reason: String, _ patches: [(UInt64, [UInt8])]) throws {
            let disk = try BlockDevice(opening: image, .exclusiveWrite)
            let old = try patches.map { ($0.0, try disk.readBytes(at: $0.0, count: $0.1.count)) }
            for (place, bytes) in patches { try disk.writeBytes(bytes, at: place) }
            let (info, map) = try VolumeIdentifier.survey(disk)
            #expect(info.kind == .f2fs && info.wholeReason == reason)
            #expect(map == .whole(byteCount: 120 << 20))
            for (place, bytes) in old { try disk.writeBytes(bytes, at: place) }
        }
        /// Both blocks of the live pack changed, with a correct checksum.
        func pack(_ change: (inout [UInt8]) -> Void) throws -> [(UInt64, [UInt8])] {
            let disk = try BlockDevice(opening: image)
            return try [live.start, live.start + live.blockCount - 1].map { block in
                var bytes = try disk.readBytes(at: block * 4096, count: 4096)
                change(&bytes)
                bytes.setLittleEndian(F2FSCheckpoint.checksum(Array(bytes[..<4092])), at: 4092)
                return (block * 4096, bytes)
            }
        }
        func flags(_ set: UInt32, clear: UInt32 = 0) throws -> [(UInt64, [UInt8])] {
            try pack { $0.setLittleEndian(live.flags & ~clear | set, at: 132) }
        }
        try patched("it was not cleanly unmounted", try flags(0, clear: 1))
        try patched("it is marked as having errors", try flags(0x10))
        try patched("its checkpoint is of a kind that is not followed here", try flags(0x1000))
        try patched(
            "its SIT does not count as many blocks as its checkpoint",
            try pack { $0.setLittleEndian(99 as UInt64, at: 16) })
        try patched(
            "the size of its SIT version bitmap is not valid", try pack { $0.setLittleEndian(32 as UInt32, at: 156) })
        // A node of the checkpoint's version at the next place of the warm node log: a file that was synced since.
        var node = [UInt8](repeating: 0, count: 4096)
        node.setLittleEndian(live.version, at: 4084)
        let next = layout.main + live.nodeLogs[1].segment * 512 + live.nodeLogs[1].block
        try patched("files were written to it after its last checkpoint", [(next * 4096, node)])
        try patched("the checksum of its superblock is wrong", [(1024 + 108, [1, 2, 3])])
        let second = try BlockDevice(opening: image).readBytes(at: 5120 + 68, count: 4)
        try patched("its two superblocks differ", [(5120 + 68, [second[0] &+ 1] + second[1...])])
        let garbage = [UInt8](repeating: 0xEE, count: 8)
        try patched(
            "neither of its checkpoints is whole",
            [(layout.checkpoint * 4096, garbage), ((layout.checkpoint + 512) * 4096, garbage)])
        #expect(try bench.survey("image").0.mapSource == .allocationStructures)
    }

    private static func check(_ bench: Workbench, _ image: FilePath) throws -> ChildProcess.Output {
        try ChildProcess.run(["fsck.f2fs", "--dry-run", image.string], timeoutSeconds: 120)
    }

    /// The map of `dump.f2fs`, with everything around the main area, and the start of that in bytes.
    private static func dump(
        _ bench: Workbench, _ image: FilePath, byteCount: UInt64
    ) throws -> (AllocationMap, UInt64) {
        // It writes its files to the current folder.
        try Files.makeFolders(bench.path("dump"))
        try Tool.run([
            "sh", "-c", "cd \"$1\" && dump.f2fs -d 1 -s 0~-1 \"$2\"", "sh", bench.path("dump").string, image.string,
        ])
        let bytes = try BlockDevice(opening: image).readBytes(at: 1024, count: 3072)
        let start = UInt64(try bytes.littleEndian(UInt32.self, at: 92)) * 4096
        let segments = UInt64(try bytes.littleEndian(UInt32.self, at: 68))
        var map = AllocationMap(byteCount: byteCount)
        map.insert(0..<start)
        map.insert(start + segments * (2 << 20)..<byteCount)
        var segment: UInt64?
        var position: UInt64 = 0
        let text = String(decoding: try Files.read(bench.path("dump").appending("dump_sit")), as: UTF8.self)
        var seen: Set<UInt64> = []
        for line in text.split(separator: "\n") {
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            if words.first == "segno:", words.count > 1, let number = UInt64(words[1]) {
                segment = number
                seen.insert(number)
                position = start + number * (2 << 20)
            } else if segment != nil, !words.isEmpty, words.allSatisfy({ UInt8($0, radix: 16) != nil }) {
                for word in words {
                    let byte = UInt8(word, radix: 16) ?? 0
                    for bit in 0..<8 {
                        if byte & (0x80 >> UInt8(bit)) != 0 { map.insert(position..<position + 4096) }
                        position += 4096
                    }
                }
            }
        }
        guard UInt64(seen.count) == segments else {
            throw ToolFailure(description: "dump.f2fs shows \(seen.count) of \(segments) segments")
        }
        return (map, start)
    }
}
