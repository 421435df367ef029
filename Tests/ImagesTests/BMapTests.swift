// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskImages
@testable import ImageFiles
@testable import ImageModel

/// Raw images with a block map beside them.
@Suite struct BMapTests {
    /// A map as bmaptool writes it, of ranges of blocks of 4 KiB.
    static func map(_ image: [UInt8], _ ranges: [ClosedRange<Int>], blockSize: Int = 4096) -> String {
        let rows = ranges.map { range in
            let bytes = Array(
                image[range.lowerBound * blockSize..<min(image.count, (range.upperBound + 1) * blockSize)])
            let blocks = range.count == 1 ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)"
            return "        <Range chksum=\"\(ContentHash(of: bytes))\"> \(blocks) </Range>"
        }
        let zeros = String(repeating: "0", count: 64)
        let text = """
            <?xml version="1.0" ?>
            <!-- This file contains the block map for an image file, which is basically
                 a list of useful (mapped) block numbers in the image file. -->

            <bmap version="2.0">
                <!-- Image size in bytes: 1.0 MiB -->
                <ImageSize> \(image.count) </ImageSize>
                <BlockSize> \(blockSize) </BlockSize>
                <BlocksCount> \((image.count + blockSize - 1) / blockSize) </BlocksCount>
                <MappedBlocksCount> \(ranges.reduce(0) { $0 + $1.count })    </MappedBlocksCount>
                <ChecksumType> sha256 </ChecksumType>
                <BmapFileChecksum> \(zeros) </BmapFileChecksum>
                <BlockMap>
            \(rows.joined(separator: "\n"))
                </BlockMap>
            </bmap>

            """
        return text.replacing(zeros, with: "\(ContentHash(of: Array(text.utf8)))")
    }

    static let image: [UInt8] = {
        var random = SeededGenerator(seed: 2)
        return (0..<(1 << 20) + 512).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }()
    static let ranges = [0...1, 5...5, 100...199, 256...256]

    /// What the map describes: zeros outside the ranges.
    static var described: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: image.count)
        for range in ranges {
            let place = range.lowerBound * 4096..<min(image.count, (range.upperBound + 1) * 4096)
            bytes.replaceSubrange(place, with: image[place])
        }
        return bytes
    }

    @Test(arguments: [
        ("a.img", "a.img.bmap", "cp plain a.img"), ("b.img", "b.bmap", "cp plain b.img"),
        ("c.img.zst", "c.img.bmap", "zstd -q -c plain > c.img.zst"),
        ("d.img.xz", "d.bmap", "xz -0 -c plain > d.img.xz"),
    ]) func aMapIsComparedWithItsImage(_ name: String, _ mapName: String, _ recipe: String) throws {
        let scratch = try ScratchFolder()
        try Files.write(Self.described, to: scratch.path.appending("plain"))
        try ToolFile.run(["sh", "-c", "cd '\(scratch.path)'; \(recipe)"])
        try Files.write(Array(Self.map(Self.image, Self.ranges).utf8), to: scratch.path.appending(mapName))
        for folder in [scratch.path, nil] {
            #expect(try DiskImageTests.content(scratch.path.appending(name), scratch: folder) == Self.described)
        }
        let disk = try DiskImageTests.open(scratch.path.appending(name), scratch: scratch.path)
        #expect(!disk.hasUncheckedParts)
        #expect(try disk.readBytes(at: 4090, count: 30000) == Array(Self.described[4090..<34090]))
        // Another bit is damage: also in a block without content, where a disk that was used since has data.
        for place in [5 * 4096 + 17, 3 * 4096, Self.image.count - 1, 250 * 4096] {
            var other = Self.described
            other[place] ^= 4
            try Files.write(other, to: scratch.path.appending("plain"))
            try ToolFile.run(["sh", "-c", "cd '\(scratch.path)'; \(recipe)"])
            for folder in [scratch.path, nil] {
                let error = #expect(throws: ImageError.self) {
                    try DiskImageTests.open(scratch.path.appending(name), scratch: folder)
                }
                guard case .damaged? = error else {
                    Issue.record("\(error?.description ?? "")")
                    continue
                }
            }
        }
    }

    @Test func aMapOfAnotherImageIsDamage() throws {
        let scratch = try ScratchFolder()
        try Files.write(Array(Self.image.dropLast(512)), to: scratch.path.appending("a.img"))
        try Files.write(Array(Self.map(Self.image, Self.ranges).utf8), to: scratch.path.appending("a.img.bmap"))
        let error = #expect(throws: ImageError.self) {
            try DiskImageTests.open(scratch.path.appending("a.img"), scratch: nil)
        }
        #expect(error?.description.contains("rename that") == true)
    }

    @Test func everyChangeOfAMapIsFound() throws {
        let sound = Array(Self.map(Self.image, Self.ranges).utf8)
        #expect(try BMap(parsing: sound).ranges.map(\.bytes.lowerBound) == [0, 5 * 4096, 100 * 4096, 256 * 4096])
        var random = SeededGenerator(seed: Sample.seed())
        for _ in 0..<(Sample.isFull ? 5000 : 300) {
            var bytes = sound
            let place = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0..<3, using: &random) {
            case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 1: bytes.removeSubrange(place...)
            default: bytes.insert(UInt8(ascii: "<"), at: place)
            }
            // Upper case in hexadecimal digits of the checksum itself is the same number.
            guard bytes.map(Self.lowered) != sound.map(Self.lowered) else { continue }
            #expect(throws: ParsingError.self, "\(String(decoding: bytes, as: UTF8.self))") { try BMap(parsing: bytes) }
        }
    }

    private static func lowered(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "F")).contains(byte) ? byte + 32 : byte
    }

    /// Each with the right checksum of the file.
    @Test(arguments: [
        ("<ImageSize> 1049088", "<ImageSize> 0"), ("<BlockSize> 4096", "<BlockSize> 0"),
        ("<BlockSize> 4096", "<BlockSize> 512"), ("version=\"2.0\"", "version=\"1.4\""), (" 5 </Range>", " 1 </Range>"),
        (" 256 </Range>", " 257 </Range>"), ("100-199", "100-18446744073709551615"), ("100-199", "199-100"),
        ("100-199", "100-198"), ("sha256", "md5"), ("<BlockMap>", "<BlockMap>&lt;"),
        ("</bmap>", "</bmap><bmap></bmap>"),
        ("<?xml", "<!DOCTYPE x><?xml"), ("chksum=\"", "chksum=\"0"),
    ]) func mapsThatMakeNoSenseAreRefused(_ old: String, _ new: String) throws {
        let text = Self.map(Self.image, Self.ranges)
        let digits = try #require(text.split(separator: "BmapFileChecksum> ").last?.prefix(64))
        let zeros = String(repeating: "0", count: 64)
        let changed = text.replacing(digits, with: zeros).replacing(old, with: new)
        #expect(changed.contains(new))
        let bytes = Array(changed.replacing(zeros, with: "\(ContentHash(of: Array(changed.utf8)))").utf8)
        #expect(throws: ParsingError.self) { try BMap(parsing: bytes) }
    }
}
