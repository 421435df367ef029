// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskImages
@testable import ImageFiles
@testable import ImageModel

@Suite struct DiskImageTests {
    /// A raw image of some chunks: data, a chunk of zeros, and a short last chunk.
    static func disk(seed: UInt64 = 3) -> [UInt8] {
        var random = SeededGenerator(seed: seed)
        var bytes = [UInt8](repeating: 0, count: (9 << 20) + 1536)
        for index in stride(from: 0, to: 4 << 20, by: 7) { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
        for index in (8 << 20)..<bytes.count { bytes[index] = UInt8(truncatingIfNeeded: random.next()) & 0x3F }
        return bytes
    }

    static func formatName(_ path: FilePath) throws -> String {
        switch try FileContents.detect(path) {
        case .recording(let format): format.name
        case .disk(let format): format.name
        case .foreign(let format): format.name
        case .unknown: "unknown"
        }
    }

    static func open(_ path: FilePath, scratch: FilePath?) throws -> any DiskFile {
        switch try FileContents.detect(path) {
        case .disk(let format): return try format.open(DiskRequest(path, scratch: scratch))
        case .foreign(let format): throw ImageError.foreign(name: format.name, why: "it is of another tool")
        case .recording(let format): throw ImageError.foreign(name: format.name, why: "it is a recording")
        case .unknown(let why): throw ImageError.foreign(name: path.string, why: why)
        }
    }

    /// All bytes of a disk, read as a restore reads them, to the confirmed end.
    static func content(_ path: FilePath, scratch: FilePath?) throws -> [UInt8] {
        let disk = try open(path, scratch: scratch)
        var bytes: [UInt8] = []
        while bytes.count < Int(disk.byteCount) {
            bytes += try disk.readBytes(
                at: UInt64(bytes.count), count: min(4 << 20, Int(disk.byteCount) - bytes.count))
        }
        try disk.confirmEnd()
        return bytes
    }

    private static let (raw, xz, zstd, other) = (
        "raw image", "raw image in an .xz file", "raw image in a .zst file", "raw image in a compressed file"
    )

    /// Files of all three kinds, as other people make them: name, how, format.
    static let recipes: [(String, String, String)] = [
        ("a.img", "cp plain a.img", raw),
        ("b.raw", "cp plain b.raw", raw),
        ("c.img.xz", "xz -0 -c plain > c.img.xz", xz),
        ("d.img.xz", "xz -1 --block-size=1MiB -T2 --check=sha256 -c plain > d.img.xz", xz),
        (
            "e.img.xz",
            "head -c 3000000 plain | xz -0 > e.img.xz; printf '\\0\\0\\0\\0' >> e.img.xz; tail -c +3000001 plain | xz -0 --check=crc32 >> e.img.xz",
            xz
        ),
        ("f.xz", "xz -0 --check=none --x86 --lzma2=preset=0 -c plain > f.xz", xz),
        ("g.img.zst", "zstd -q -3 -c plain > g.img.zst", zstd),
        (
            "h.img.zst",
            "head -c 1000000 plain | zstd -q -1 > h.img.zst; tail -c +1000001 plain | zstd -q -1 --no-check >> h.img.zst",
            zstd
        ),
        ("i.zst", "zstd -q --long=27 -c plain > i.zst", zstd),
        ("j.img.gz", "gzip -1 -c plain > j.img.gz", other),
        (
            "k.gz",
            "head -c 1000000 plain | gzip -1 > k.gz; tail -c +1000001 plain | gzip -1 >> k.gz", other
        ),
        ("l.img.bz2", "bzip2 -1 -c plain > l.img.bz2", other), ("m.dd", "cp plain m.dd", raw),
    ]

    @Test func disksInFilesOfAllFormatsAreReadWhole() throws {
        let scratch = try ScratchFolder()
        let disk = Self.disk()
        try Files.write(disk, to: scratch.path.appending("plain"))
        for (name, recipe, format) in Self.recipes {
            try ToolFile.run(["sh", "-c", "set -e; cd '\(scratch.path)'; \(recipe)"])
            let path = scratch.path.appending(name)
            #expect(try Self.formatName(path) == format, "\(name)")
            for folder in [scratch.path, nil] {
                let opened = try Self.open(path, scratch: folder)
                #expect(opened.byteCount == UInt64(disk.count))
                #expect(opened.isRandomAccess == (folder != nil || format == Self.raw), "\(name)")
                #expect(try Self.content(path, scratch: folder) == disk, "\(name)")
                let isUnchecked = ["a.img", "b.raw", "f.xz", "h.img.zst", "m.dd"].contains(name)
                #expect(opened.hasUncheckedParts == isUnchecked, "\(name)")
            }
            // Nothing is left of the scratches.
            #expect(!Files.names(in: scratch.path).contains { $0.hasPrefix(".reforge") })
        }
    }

    /// The headers that lzop 1.04 writes without options, with --crc32, -F, and both.
    @Test(arguments: [(0x0D, false), (0x110C, false), (0x0C, true), (0x100C, true)] as [(UInt16, Bool)])
    func anLZOStreamMayHaveNoChecksums(flags: UInt16, isUnchecked: Bool) throws {
        let head: [UInt8] =
            [0x89, 0x4C, 0x5A, 0x4F, 0, 0x0D, 0x0A, 0x1A, 0x0A, 0x10, 0x40, 0x20, 0xA0, 0x09, 0x40, 1, 5, 3, 0]
            + [UInt8(flags >> 8), UInt8(flags & 0xFF), 0, 0]
        let compression = Compression.detect(head)
        #expect(compression.name == "lzo")
        #expect(compression.isUnchecked(head) == isUnchecked)
    }

    /// A disk decompressed into a scratch takes no room for zeros, and can be read at any offset.
    @Test func aScratchIsSparseAndReadAtAnyPlace() throws {
        let scratch = try ScratchFolder()
        var disk = [UInt8](repeating: 0, count: 32 << 20)
        disk[5] = 1
        disk[disk.count - 1] = 2
        try Files.write(disk, to: scratch.path.appending("plain"))
        try ToolFile.run(["sh", "-c", "cd '\(scratch.path)'; zstd -q plain -o disk.img.zst"])
        let opened = try Self.open(scratch.path.appending("disk.img.zst"), scratch: scratch.path)
        let descriptor = try #require(opened.descriptor)
        var status = stat()
        #expect(fstat(descriptor, &status) == 0)
        #expect(status.st_size == disk.count)
        #expect(status.st_blocks * 512 <= 256 << 10)
        #expect(try opened.readBytes(at: UInt64(disk.count) - 1, count: 1) == [2])
        #expect(try opened.readBytes(at: 4, count: 3) == [0, 1, 0])
        #expect(throws: BlockIOError.self) { try opened.readBytes(at: UInt64(disk.count) - 1, count: 2) }
    }

    @Test func aStreamedDiskGoesBackByStartingOver() throws {
        let scratch = try ScratchFolder()
        let disk = Self.disk()
        try Files.write(disk, to: scratch.path.appending("plain"))
        try ToolFile.run(["sh", "-c", "cd '\(scratch.path)'; xz -0 -c plain > disk.img.xz"])
        let opened = try Self.open(scratch.path.appending("disk.img.xz"), scratch: nil)
        for start in [3 << 20, 0, 8 << 20, 2 << 20, disk.count - 1000] {
            #expect(try opened.readBytes(at: UInt64(start), count: 1000) == Array(disk[start..<start + 1000]))
        }
        try opened.confirmEnd()
        #expect(throws: BlockIOError.self) { try opened.readBytes(at: UInt64(disk.count) - 1, count: 2) }
        #expect(opened.descriptor == nil)
    }

    @Test func aFileThatChangesWhileItIsReadIsReported() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk.img")
        try Files.write(Self.disk(), to: path)
        let opened = try Self.open(path, scratch: nil)
        try opened.confirmEnd()
        let descriptor = try OwnedDescriptor.open(path, .writeOnly)
        try descriptor.raw.writeAll(toAbsoluteOffset: 5 << 20, [1, 2, 3])
        #expect(throws: ImageError.self) { try opened.confirmEnd() }
    }

    @Test func damagedAndOddFilesAreRefused() throws {
        let scratch = try ScratchFolder()
        func file(_ name: String, _ bytes: [UInt8]) throws -> FilePath {
            let path = scratch.path.appending(name)
            try Files.write(bytes, to: path)
            return path
        }
        let disk = Self.disk()
        try Files.write(disk, to: scratch.path.appending("plain"))
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        for (name, recipe, format) in Self.recipes where format != Self.raw {
            try ToolFile.run(["sh", "-c", "set -e; cd '\(scratch.path)'; \(recipe)"])
            let whole = try Files.read(scratch.path.appending(name))
            for round in 0..<12 {
                var bytes = whole
                if round % 3 == 0 {
                    bytes.removeLast(Int.random(in: 1..<bytes.count, using: &random))
                } else if round % 3 == 1 {
                    bytes += [1, 2, 3, 4]
                } else {
                    bytes[Int.random(in: 0..<bytes.count, using: &random)] ^=
                        1 << UInt8.random(in: 0..<8, using: &random)
                }
                let path = try file("damaged-" + name, bytes)
                let result = try? Self.content(path, scratch: round % 2 == 0 ? scratch.path : nil)
                // Bytes without a checksum may have any value, and decoders ignore some bits of a zstd frame.
                let isChecked = name != "f.xz" && name != "h.img.zst"
                #expect(result == nil || result == disk || !isChecked, "seed \(seed), \(name), round \(round)")
                if round % 3 != 2 { #expect(result == nil, "seed \(seed), \(name), round \(round)") }
            }
        }
        for (name, bytes) in [("odd.img.xz", [UInt8](repeating: 1, count: 1000)), ("none.img.xz", [])] {
            let path = try file("odd", bytes)
            try ToolFile.run(["sh", "-c", "xz -c '\(path)' > '\(scratch.path)/\(name)'"])
            #expect(throws: ImageError.self) { try Self.content(scratch.path.appending(name), scratch: scratch.path) }
        }
        let zstd = try file("odd.img.zst", try Zstd.compress([UInt8](repeating: 1, count: 1000)))
        #expect(throws: ImageError.self) { try Self.content(zstd, scratch: scratch.path) }
        #expect(throws: ImageError.self) { try DiskFormat.raw.open(DiskRequest("/dev/null")) }
    }

    @Test func kindsAreToldApart() throws {
        let scratch = try ScratchFolder()
        func kind(_ name: String, _ bytes: [UInt8]) throws -> String {
            let path = scratch.path.appending(name)
            try Files.write(bytes, to: path)
            return try Self.formatName(path)
        }
        func isUnknown(_ kind: String) -> Bool { kind == "unknown" }
        let (image, encryptedImage, xzImage) = (
            "Reforge image", "encrypted Reforge image", "Reforge .img.xz archive"
        )
        let sectors = [UInt8](repeating: 0x41, count: 4096)
        let skippable: [UInt8] = [0x50, 0x2A, 0x4D, 0x18, 0, 16, 0, 0]
        let ours = skippable + Array("RFIMGHDR".utf8) + sectors.dropLast(16)

        #expect(try kind("a.img.zst", ours) == image)
        #expect(try kind("a.img", ours) == image)
        #expect(try kind("a.raw", Array("RFIMGENC".utf8) + sectors) == encryptedImage)
        #expect(try kind("b.img.enc", Array("RFIMGENC".utf8) + sectors) == encryptedImage)
        // With any one damaged byte at its start, a Reforge image is recognised as one, or refused.
        for position in 0..<16 {
            for name in ["d.img", "d.img.zst", "d.raw", "d.img.enc", "d"] {
                var bytes = ours
                bytes[position] ^= 0x20
                let found = try kind(name, bytes)
                #expect(found == image || isUnknown(found), "byte \(position), \(name): \(found)")
            }
        }
        // The start is missing, but the end is intact.
        let footer = ImageFooter(
            indexOffset: 0, recordCount: 0, lateFactsOffset: 0, fileByteCount: 0, imageID: ContentHash(of: []),
            lateFactsHash: ContentHash(of: []))
        #expect(isUnknown(try kind("e.img", sectors.dropLast(128) + footer.payload)))
        #expect(isUnknown(try kind("f.img.enc", sectors)))
        #expect(isUnknown(try kind("f.enc.img", sectors)))
        #expect(isUnknown(try kind("g.img.zst", sectors)))
        #expect(isUnknown(try kind("g.img.xz", sectors)))
        #expect(isUnknown(try kind("h", sectors)))
        #expect(isUnknown(try kind("img", sectors)))
        #expect(isUnknown(try kind("i.img", Array(sectors.dropLast(1)))))
        #expect(isUnknown(try kind("j.img", [])))
        #expect(try kind("k.img", sectors) == Self.raw)
        #expect(try kind("k.ISO", sectors) == Self.raw)
        #expect(try kind("l.img", try Zstd.compress(sectors)) == Self.zstd)
        #expect(try kind("m.img", [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00] + sectors) == Self.xz)
        // With its metadata file, an archive is a Reforge image, whatever its first bytes.
        try Files.write([1], to: scratch.path.appending("n.img.xz.reforge"))
        #expect(try kind("n.img.xz", [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00] + sectors) == xzImage)
        #expect(try kind("n.img.xz", sectors) == xzImage)
        #expect(try Self.formatName("/dev/null") == image)
        #expect(throws: ImageError.self) { try Self.formatName(scratch.path.appending("missing")) }
    }

    /// Without its metadata, an archive is an xz-compressed disk.
    @Test func anArchiveWithoutItsMetadataIsARawImage() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk.img.xz")
        let disk = try SampleDisk()
        _ = try XZImageTests.write(disk, to: path)
        #expect(try Self.formatName(path) == "Reforge .img.xz archive")
        try Files.remove(XZImageReader.metadataPath(of: path))
        #expect(try Self.formatName(path) == Self.xz)
        #expect(try Self.content(path, scratch: scratch.path) == disk.content)
    }
}
