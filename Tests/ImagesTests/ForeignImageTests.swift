// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import ImageFiles
@testable import ImageModel

@Suite struct ForeignImageTests {
    /// A raw image of some chunks: data, a chunk of zeros, and a short last chunk.
    static func disk(seed: UInt64 = 3) -> [UInt8] {
        var random = SeededGenerator(seed: seed)
        var bytes = [UInt8](repeating: 0, count: (9 << 20) + 1536)
        for index in stride(from: 0, to: 4 << 20, by: 7) { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
        for index in (8 << 20)..<bytes.count { bytes[index] = UInt8(truncatingIfNeeded: random.next()) & 0x3F }
        return bytes
    }

    static func content(_ path: FilePath) throws -> [UInt8] {
        let reader = try ForeignImageReader(path, kind: try ImageFileKind.detect(path))
        return try SampleDisk.content(of: reader)
    }

    /// Files of all three kinds, as made by other tools: name, how, kind.
    static let recipes: [(String, String, ImageFileKind)] = [
        ("a.img", "cp plain a.img", .foreignRaw),
        ("b.raw", "cp plain b.raw", .foreignRaw),
        ("c.img.xz", "xz -0 -c plain > c.img.xz", .foreignXZ),
        ("d.img.xz", "xz -1 --block-size=1MiB -T2 --check=sha256 -c plain > d.img.xz", .foreignXZ),
        (
            "e.img.xz",
            "head -c 3000000 plain | xz -0 > e.img.xz; printf '\\0\\0\\0\\0' >> e.img.xz; tail -c +3000001 plain | xz -0 --check=crc32 >> e.img.xz",
            .foreignXZ
        ),
        ("f.xz", "xz -0 --check=none --x86 --lzma2=preset=0 -c plain > f.xz", .foreignXZ),
        ("g.img.zst", "zstd -q -3 -c plain > g.img.zst", .foreignZstd),
        (
            "h.img.zst",
            "head -c 1000000 plain | zstd -q -1 > h.img.zst; tail -c +1000001 plain | zstd -q -1 --no-check >> h.img.zst",
            .foreignZstd
        ),
        ("i.zst", "zstd -q --long=27 -c plain > i.zst", .foreignZstd),
    ]

    @Test func rawImagesOfAllKindsAreReadWhole() throws {
        let scratch = try ScratchFolder()
        let disk = Self.disk()
        try Files.write(disk, to: scratch.path.appending("plain"))
        for (name, recipe, kind) in Self.recipes {
            try ToolFile.run(["sh", "-c", "set -e; cd '\(scratch.path)'; \(recipe)"])
            let path = scratch.path.appending(name)
            #expect(try ImageFileKind.detect(path) == kind, "\(name)")
            let reader = try ForeignImageReader(path, kind: kind)
            let manifest = reader.header.manifest
            #expect(manifest.geometry.byteCount == UInt64(disk.count))
            #expect(manifest.regions.map(\.kind) == [.disk])
            #expect(manifest.table.kind == .unknown)
            #expect(try SampleDisk.content(of: reader) == disk, "\(name)")
            // The same file gives the same image, so that an interrupted restore finds it again.
            let again = try ForeignImageReader(path, kind: kind)
            #expect(again.header == reader.header)
            _ = try SampleDisk.content(of: again)
            #expect(again.ending?.id == reader.ending?.id)
            let isUnchecked = ["a.img", "b.raw", "f.xz", "h.img.zst"].contains(name)
            #expect(manifest.warnings.isEmpty != isUnchecked, "\(name)")
        }
    }

    @Test func chunksCarryTrueHashesAndZerosAreRuns() throws {
        let scratch = try ScratchFolder()
        let disk = Self.disk()
        let path = scratch.path.appending("disk.img")
        try Files.write(disk, to: path)
        let reader = try ForeignImageReader(path, kind: .foreignRaw)
        var records: [ChunkRecord] = []
        while let record = try reader.nextRecord() { records.append(record) }
        #expect(records.map(\.kind) == [.data, .zero, .data])
        #expect(records[0].hash == ContentHash(of: Array(disk[..<(4 << 20)])))
        #expect(records[2].hash == ContentHash(of: Array(disk[(8 << 20)...])))
        #expect(records[2].range == 8 << 20..<UInt64(disk.count))
    }

    @Test func theCallerNamesTheTable() throws {
        let scratch = try ScratchFolder()
        var disk = Self.disk()
        disk[510] = 0x55
        disk[511] = 0xAA
        let path = scratch.path.appending("disk.img")
        try Files.write(disk, to: path)
        var seen: [UInt8] = []
        let reader = try ForeignImageReader(
            path, kind: .foreignRaw,
            table: { head in
                seen = (try? head.readBytes(at: 0, count: 512)) ?? []
                // Data after the head is not readable here, but reading does not fail.
                #expect(
                    (try? head.readBytes(at: head.byteCount - 512, count: 512)) == [UInt8](repeating: 0, count: 512))
                return PartitionTable(kind: .gpt, usable: 17_408..<1 << 20, entryCount: 128)
            })
        #expect(seen == Array(disk[..<512]))
        #expect(reader.header.manifest.table.kind == .unknown)
        #expect(reader.header.manifest.table.unknownKindName == "GPT")
        let mbr = try ForeignImageReader(
            path, kind: .foreignRaw,
            table: { head in
                PartitionTable(kind: .unknown, unknownKindName: "MBR", usable: 0..<head.byteCount)
            })
        #expect(mbr.header.manifest.table.unknownKindName == "MBR")
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
        let seed = UInt64.random(in: .min ... .max)
        var random = SeededGenerator(seed: seed)
        for (name, recipe, kind) in Self.recipes where kind != .foreignRaw {
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
                let result = try? Self.content(path)
                // Bytes without a checksum can be anything, and a zstd frame has bits that no decoder checks.
                let isChecked = name != "f.xz" && name != "h.img.zst"
                #expect(result == nil || result == disk || !isChecked, "seed \(seed), \(name), round \(round)")
                if round % 3 != 2 { #expect(result == nil, "seed \(seed), \(name), round \(round)") }
            }
        }
        for (name, bytes) in [("odd.img.xz", [UInt8](repeating: 1, count: 1000)), ("none.img.xz", [])] {
            let path = try file("odd", bytes)
            try ToolFile.run(["sh", "-c", "xz -c '\(path)' > '\(scratch.path)/\(name)'"])
            #expect(throws: ImageError.self) { try Self.content(scratch.path.appending(name)) }
        }
        let zstd = try file("odd.img.zst", try Zstd.compress([UInt8](repeating: 1, count: 1000)))
        #expect(throws: ImageError.self) { try Self.content(zstd) }
        #expect(throws: ImageError.self) { try ForeignImageReader("/dev/null", kind: .foreignRaw) }
    }

    @Test func aFileThatChangesWhileItIsReadIsReported() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk.img")
        try Files.write(Self.disk(), to: path)
        let reader = try ForeignImageReader(path, kind: .foreignRaw)
        _ = try reader.nextRecord()
        let descriptor = try OwnedDescriptor.open(path, .writeOnly)
        try descriptor.raw.writeAll(toAbsoluteOffset: 5 << 20, [1, 2, 3])
        #expect(throws: ImageError.self) { while try reader.nextRecord() != nil {} }
        #expect(reader.ending == nil)
    }

    @Test func kindsAreToldApart() throws {
        let scratch = try ScratchFolder()
        func kind(_ name: String, _ bytes: [UInt8]) throws -> ImageFileKind {
            let path = scratch.path.appending(name)
            try Files.write(bytes, to: path)
            return try ImageFileKind.detect(path)
        }
        func isUnknown(_ kind: ImageFileKind) -> Bool { if case .unknown = kind { true } else { false } }
        let sectors = [UInt8](repeating: 0x41, count: 4096)
        let skippable: [UInt8] = [0x50, 0x2A, 0x4D, 0x18, 0, 16, 0, 0]
        let ours = skippable + Array("RFIMGHDR".utf8) + sectors.dropLast(16)

        #expect(try kind("a.img.zst", ours) == .image)
        #expect(try kind("a.img", ours) == .image)
        #expect(try kind("a.raw", Array("RFIMGENC".utf8) + sectors) == .encryptedImage)
        #expect(try kind("b.img.enc", Array("RFIMGENC".utf8) + sectors) == .encryptedImage)
        // With any single damaged byte in its front, a Reforge image is still recognized or refused.
        for position in 0..<16 {
            for name in ["d.img", "d.img.zst", "d.raw", "d.img.enc", "d"] {
                var bytes = ours
                bytes[position] ^= 0x20
                let found = try kind(name, bytes)
                #expect(found == .image || isUnknown(found), "byte \(position), \(name): \(found)")
            }
        }
        // Its front is destroyed, but its end is intact.
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
        #expect(try kind("k.img", sectors) == .foreignRaw)
        #expect(try kind("k.ISO", sectors) == .foreignRaw)
        #expect(try kind("l.img", try Zstd.compress(sectors)) == .foreignZstd)
        #expect(try kind("m.img", [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00] + sectors) == .foreignXZ)
        // With metadata beside it, an archive is Reforge's, independent of its first bytes.
        try Files.write([1], to: scratch.path.appending("n.img.xz.reforge"))
        #expect(try kind("n.img.xz", [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00] + sectors) == .xzImage)
        #expect(try kind("n.img.xz", sectors) == .xzImage)
        #expect(try ImageFileKind.detect("/dev/null") == .image)
        #expect(throws: ImageError.self) { try ImageFileKind.detect(scratch.path.appending("missing")) }
    }

    /// `xz` decompresses a Reforge archive without its metadata to the disk.
    @Test func anArchiveWithoutItsMetadataIsARawImage() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk.img.xz")
        let disk = try SampleDisk()
        _ = try XZImageTests.write(disk, to: path)
        #expect(try ImageFileKind.detect(path) == .xzImage)
        try Files.remove(XZImageReader.metadataPath(of: path))
        #expect(try ImageFileKind.detect(path) == .foreignXZ)
        #expect(try Self.content(path) == disk.content)
    }
}
