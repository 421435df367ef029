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
        [], ["-O", "extra_attr,inode_checksum,sb_checksum"], ["-O", "extra_attr,compression,flexible_inline_xattr"],
        ["-O", "encrypt,verity,extra_attr,project_quota,inode_crtime,quota"], ["-s", "2"], ["-w", "4096"],
        ["-O", "lost_found,casefold", "-C", "utf8"],
    ]

    /// A filesystem with a random tree: our map is what `dump.f2fs` says of each segment, all around the main area
    /// counts, and fsck.f2fs finds nothing wrong once the rest is overwritten.
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
        let (info, map) = try bench.survey("image")
        #expect(info.kind == .f2fs && info.mapSource == .allocationStructures, "\(comment): \(info)")
        #expect(info.isClean == true && info.blockSize == 4096, comment)
        #expect(try bench.opinion("image") == .found(kindName: "f2fs", uuid: info.uuid, label: info.label), comment)

        let (dumped, mainStart) = try Self.dump(bench, image, byteCount: byteCount)
        #expect(dumped.isSubset(of: map), comment)
        #expect(map == dumped, comment)
        print(
            "\(comment): \(map.ranges.count) ranges, \(ByteText.rounded(map.usedByteCount - mainStart)) in the main area"
        )

        let before = try Self.check(bench, image)
        #expect(before.succeeded, "\(comment): \(before.text)")
        try spoilUnused(image, map)
        let after = try Self.check(bench, image)
        let isAsBefore = after.succeeded && after.text == before.text
        #expect(isAsBefore, "\(comment): \(after.text)")
    }

    private static func check(_ bench: Workbench, _ image: FilePath) throws -> ChildProcess.Output {
        try ChildProcess.run(["fsck.f2fs", "--dry-run", image.string], timeoutSeconds: 120)
    }

    /// The map that `dump.f2fs` shows, with all around the main area, and where that starts in bytes.
    private static func dump(
        _ bench: Workbench, _ image: FilePath, byteCount: UInt64
    ) throws -> (AllocationMap, UInt64) {
        // It writes its files where it is.
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
