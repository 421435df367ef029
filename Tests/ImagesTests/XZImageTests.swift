// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import ImageFiles
@testable import ImageModel

@Suite struct XZImageTests {
    static func write(_ capture: SampleDisk, to path: FilePath, overwrite: Bool = false) throws -> ImageSummary {
        try capture.write(to: try XZImageWriter(path, overwrite: overwrite, header: capture.header))
    }

    @Test func archivesRoundTripAndAreXZForEverybody() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk.img.xz")
        // The unused half is longer than two blocks of zeros.
        let capture = try SampleDisk(partitionByteCount: 40 << 20)
        let summary = try Self.write(capture, to: path)
        #expect(Files.names(in: scratch.path) == ["disk.img.xz", "disk.img.xz.reforge"])

        let reader = try XZImageReader(path)
        #expect(reader.header.manifest.codec == "xz")
        #expect(reader.header.maps == capture.header.maps)
        #expect(try SampleDisk.content(of: reader) == capture.content)
        #expect(reader.ending?.id == summary.id)
        #expect(try reader.nextRecord() == nil)
        #expect(try SampleDisk.content(of: try XZImageReader(path), later: true) == capture.content)

        try ToolFile.run(["xz", "-t", path.string])
        let plain = scratch.path.appending("plain")
        try Files.write(capture.content, to: plain)
        try ToolFile.run(["sh", "-c", "xz -dc '\(path)' | cmp - '\(plain)'"])
        let listing = try ToolFile.run(["xz", "--robot", "-lv", path.string]).text
        let totals = try #require(listing.split(separator: "\n").first { $0.hasPrefix("file") }).split(separator: "\t")
        #expect(totals[1] == "1")
        #expect(totals[4] == "\(capture.content.count)")
        #expect(totals[6] == "CRC64")
        let archiveByteCount = try Stat(path).size
        let metadataByteCount = try Stat(FilePath(path.string + ".reforge")).size
        #expect(summary.storedByteCount == UInt64(archiveByteCount + metadataByteCount))
    }

    @Test func namesAreTakenOnlyWhenAllIsWhole() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk.img.xz")
        let capture = try SampleDisk()
        do {
            let writer = try XZImageWriter(path, overwrite: false, header: capture.header)
            try writer.appendRun(.zero, region: 0, range: 0..<1 << 20)
            #expect(!Files.exists(path))
        }
        #expect(Files.names(in: scratch.path).isEmpty)
        // A foreign file under the name: it gets no Reforge metadata.
        do {
            let writer = try XZImageWriter(path, overwrite: false, header: capture.header)
            try Files.write([1, 2, 3], to: path)
            #expect(throws: SystemCallError.self) { try capture.write(to: writer) }
        }
        #expect(try Files.read(path) == [1, 2, 3])
        #expect(!Files.exists(XZImageReader.metadataPath(of: path)))
        #expect(throws: SystemCallError.self) { try Self.write(capture, to: path) }
        // Replaced on request.
        _ = try Self.write(capture, to: path, overwrite: true)
        #expect(try SampleDisk.content(of: try XZImageReader(path)) == capture.content)
        var wrong = capture.header
        wrong.manifest.level = 19
        #expect(throws: CodecError.self) { try XZImageWriter(path, overwrite: true, header: wrong) }
    }

    /// Metadata of another capture, as left by a crash between the two renames of an overwriting capture.
    @Test func metadataOfAnotherArchiveAreRefused() throws {
        let scratch = try ScratchFolder()
        let one = scratch.path.appending("one.img.xz")
        let two = scratch.path.appending("two.img.xz")
        _ = try Self.write(try SampleDisk(seed: 1), to: one)
        _ = try Self.write(try SampleDisk(seed: 2), to: two)
        try Files.write(
            try Files.read(XZImageReader.metadataPath(of: two)), to: XZImageReader.metadataPath(of: one))
        do {
            _ = try SampleDisk.content(of: try XZImageReader(one))
            Issue.record("accepted")
        } catch {
            #expect("\(error)".contains("one.img.xz"))
        }
        try Files.remove(XZImageReader.metadataPath(of: two))
        #expect(throws: ImageError.self) { try XZImageReader(two) }
        // The metadata are no image.
        do {
            _ = try ImageFile(XZImageReader.metadataPath(of: one))
            Issue.record("accepted")
        } catch {
            #expect("\(error)".contains("that file, beside it, is the image"))
        }
    }

    /// Every flipped bit is reported, in either file; and so is every cut.
    @Test func damageIsReported() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk.img.xz")
        let capture = try SampleDisk()
        _ = try Self.write(capture, to: path)
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        for file in [path, XZImageReader.metadataPath(of: path)] {
            let whole = try Files.read(file)
            for round in 0..<120 {
                var bytes = whole
                if round % 6 == 5 {
                    bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
                } else {
                    // Its first and last bytes as often as the rest.
                    let place =
                        switch round % 3 {
                        case 0: Int.random(in: 0..<min(400, bytes.count), using: &random)
                        case 1: bytes.count - 1 - Int.random(in: 0..<min(400, bytes.count), using: &random)
                        default: Int.random(in: 0..<bytes.count, using: &random)
                        }
                    bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                }
                let descriptor = try OwnedDescriptor.open(file, .writeOnly, options: .truncate)
                try descriptor.raw.writeAll(bytes)
                #expect(throws: (any Error).self, "seed \(seed), round \(round), \(file)") {
                    try SampleDisk.content(of: try XZImageReader(path))
                }
            }
            try Files.write(whole, to: file)
        }
        #expect(try SampleDisk.content(of: try XZImageReader(path)) == capture.content)
    }

    /// False metadata with valid checksums: never a trap, never a hang.
    @Test func hostileMetadata() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk.img.xz")
        let capture = try SampleDisk()
        _ = try Self.write(capture, to: path)
        let metadataPath = XZImageReader.metadataPath(of: path)
        let whole = try Files.read(metadataPath)
        let footer = try ImageFooter(payload: Array(whole.suffix(ImageFormat.footerByteCount)))
        let headerFrame = Array(whole[..<Int(footer.indexOffset)])
        let entries = Array(whole[Int(footer.indexOffset) + 12..<Int(footer.lateFactsOffset)])
        let late = Array(whole[Int(footer.lateFactsOffset)..<whole.count - 136 - 72])
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        for round in 0..<150 {
            var changed = entries
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let start = Int.random(in: 0..<changed.count / 72, using: &random) * 72
                let extremes: [UInt8] = [0, 1, 0x7F, 0x80, 0xFF, UInt8.random(in: .min ... .max, using: &random)]
                let field = Int.random(in: 4..<72, using: &random)
                changed[start + field] = extremes[Int.random(in: 0..<extremes.count, using: &random)]
                if Int.random(in: 0..<4, using: &random) == 0 {
                    for index in 8..<24 { changed[start + index] = 0xFF }
                }
                let payload = Array(changed[start..<start + 64])
                changed.setLittleEndian(CRC32.iso.checksum(payload[0..<28] + payload[32..<64]), at: start + 28)
            }
            if round % 10 == 0 { changed.removeLast(72) }
            var identity = ContentHash.Running()
            identity.update(Array(headerFrame[8...]))
            identity.update(changed)
            var bytes = headerFrame + ImageFormat.frame(ImageFormat.indexTag + changed)
            var ending = footer
            ending.lateFactsOffset = UInt64(bytes.count)
            ending.recordCount = UInt64(changed.count / 72)
            ending.imageID = identity.finish()
            bytes += late
            var tie = try XZImageTie(payload: Array(whole[(whole.count - 136 - 64)..<(whole.count - 136)]))
            if round % 7 == 0 { tie.indexOffset = UInt64.random(in: .min ... .max, using: &random) }
            if round % 11 == 0 { tie.archiveByteCount = UInt64.random(in: .min ... .max, using: &random) }
            bytes += ImageFormat.frame(tie.payload)
            ending.fileByteCount = UInt64(bytes.count + 136)
            bytes += ImageFormat.frame(ending.payload)
            let descriptor = try OwnedDescriptor.open(metadataPath, .writeOnly, options: .truncate)
            try descriptor.raw.writeAll(bytes)
            if changed == entries { continue }
            if let content = try? SampleDisk.content(of: try XZImageReader(path)) {
                // Zero called unused and the like change no byte here.
                #expect(content == capture.content, "seed \(seed), round \(round)")
            }
        }
    }
}
