// SPDX-License-Identifier: GPL-3.0-or-later
import TestSupport
import Testing

@testable import Codecs

@Suite struct XZTests {
    /// Bytes that compress somewhat.
    static func content(_ byteCount: Int) -> [UInt8] {
        var state: UInt64 = 0x9E37_79B9_7F4A_7C15
        return (0..<byteCount).map { index in
            if index % 5 == 0 { state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407 }
            return UInt8(truncatingIfNeeded: state >> 56) & 0x3F
        }
    }

    static func compress(_ bytes: [UInt8], level: Int) throws -> [UInt8] {
        let encoder = try ChunkEncoder(ChunkCoding(codec: .xz(level: level)))
        var target = [UInt8](repeating: 0, count: ChunkCoding.bound(bytes.count))
        let count = try target.withUnsafeMutableBytes { target in
            try bytes.withUnsafeBytes { try encoder.encode($0, id: ContentHash(of: bytes), into: target) }
        }
        return Array(target.prefix(count))
    }

    static func decompress(_ block: [UInt8], byteCount: Int, id: ContentHash? = nil) throws -> [UInt8] {
        let decoder = try ChunkDecoder(ChunkCoding(codec: .xz(level: 6)))
        var content = [UInt8](repeating: 0xEE, count: byteCount)
        try content.withUnsafeMutableBytes { content in
            try block.withUnsafeBytes { try decoder.decode($0, id: id, into: content) }
        }
        return content
    }

    static func isZeros(_ block: [UInt8], _ byteCount: Int) throws -> Bool {
        try block.withUnsafeBytes { try XZBlock.isZeros($0, byteCount: UInt64(byteCount)) }
    }

    @Test(arguments: [0, 1, 6, 9], [1, 512, 70_000, 1 << 20])
    func blocksRoundTrip(level: Int, byteCount: Int) throws {
        let bytes = Self.content(byteCount)
        let block = try Self.compress(bytes, level: level)
        #expect(try Self.decompress(block, byteCount: byteCount, id: ContentHash(of: bytes)) == bytes)
        let sizes = try block.withUnsafeBytes { try XZBlock.sizes($0) }
        #expect(sizes.stored == block.count)
        #expect(sizes.content == UInt64(byteCount))
        #expect(throws: CodecError.self) { try Self.decompress(block, byteCount: byteCount + 1) }
        #expect(throws: CodecError.self) { try Self.decompress(block, byteCount: byteCount - 1) }
        #expect(throws: CodecError.self) { try Self.decompress(block + [0, 0, 0, 0], byteCount: byteCount) }
        #expect(throws: CodecError.self) { try Self.decompress(Array(block.dropLast(4)), byteCount: byteCount) }
    }

    @Test func whatDoesNotCompressFits() throws {
        var generator = SeededGenerator(seed: Sample.seed())
        let bytes = (0..<1 << 20).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        let block = try Self.compress(bytes, level: 9)
        #expect(try Self.decompress(block, byteCount: bytes.count) == bytes)
    }

    @Test func wrongLevelsAreRefused() {
        for level in [-1, 10, 1000] {
            #expect(throws: CodecError.self) { try Self.compress([1, 2, 3], level: level) }
        }
        #expect(XZBlock.encoderMemoryByteCount(level: 10, chunkByteCount: 1 << 20) == .max)
        // The dictionary follows the chunk: level 9 alone would take over 600 MiB.
        #expect(XZBlock.encoderMemoryByteCount(level: 9, chunkByteCount: 4 << 20) < 64 << 20)
    }

    @Test func everyBitOfABlockCounts() throws {
        let bytes = Self.content(3000)
        let block = try Self.compress(bytes, level: 6)
        for bit in 0..<block.count * 8 {
            var damaged = block
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: CodecError.self, "bit \(bit)") { try Self.decompress(damaged, byteCount: bytes.count) }
        }
    }

    @Test(arguments: [1, 512, 128 << 10, (1 << 20) + 1, 16 << 20])
    func zeroBlocks(byteCount: Int) throws {
        let block = try XZBlock.zeros(byteCount: byteCount)
        // 16 MiB in some 2.5 KB: LZMA's minimum.
        #expect(block.count <= 128 + byteCount / 6400)
        #expect(try Self.decompress(block, byteCount: byteCount).allSatisfy { $0 == 0 })
        #expect(try Self.isZeros(block, byteCount))
        #expect(try !Self.isZeros(block, byteCount + 1))
        #expect(try !Self.isZeros(block, byteCount - 1))
        var content = [UInt8](repeating: 0, count: min(byteCount, 1 << 20))
        content[content.count - 1] = 1
        let other = try Self.compress(content, level: 1)
        #expect(try !Self.isZeros(other, content.count))
        for position in 0..<min(block.count, 200) {
            var damaged = block
            damaged[position] ^= 0x40
            #expect((try? Self.isZeros(damaged, byteCount)) != true)
        }
    }

    /// A whole .xz file of Reforge, as bytes.
    static func file(_ contents: [[UInt8]]) throws -> [UInt8] {
        let framing = try XZStreamFraming()
        var file = try XZStreamFraming.header()
        for content in contents {
            let block = try compress(content, level: 3)
            try framing.append(try block.withUnsafeBytes { try XZBlock.sizes($0) })
            file += block
        }
        file += try framing.tail()
        #expect(framing.fileByteCount == UInt64(file.count))
        return file
    }

    static func surveyed(_ file: [UInt8], piece: Int = 8192) throws -> XZFileSurveyor {
        let surveyor = try XZFileSurveyor(fileByteCount: UInt64(file.count))
        var budget = 1_000_000
        while let wanted = surveyor.wanted, budget > 0 {
            budget -= 1
            let start = Int(min(wanted, UInt64(file.count)))
            try Array(file[start..<min(file.count, start + piece)]).withUnsafeBytes { try surveyor.take($0) }
        }
        #expect(budget > 0)
        return surveyor
    }

    static func streamed(_ file: [UInt8], _ decompressor: any StreamDecompressor, piece: Int, room: Int) throws
        -> [UInt8]
    {
        var result: [UInt8] = []
        var position = 0
        var target = [UInt8](repeating: 0, count: room)
        var budget = 50_000_000
        while budget > 0 {
            budget -= 1
            let end = min(file.count, position + piece)
            let progress = try target.withUnsafeMutableBytes { target in
                try Array(file[position..<end]).withUnsafeBytes {
                    try decompressor.decompress($0, isLast: end == file.count, into: target)
                }
            }
            result += target[..<progress.made]
            position += progress.taken
            if progress.isFinished { break }
        }
        #expect(budget > 0)
        return result
    }

    @Test func filesAreSurveyedAndStreamed() throws {
        let contents = [Self.content(100_000), [UInt8](repeating: 0, count: 65_536), Self.content(7)]
        let one = try Self.file(contents)
        // Two streams, with padding between them and behind.
        let two = one + [UInt8](repeating: 0, count: 8) + one + [0, 0, 0, 0]
        for piece in [1, 3, 4096, 1 << 20] {
            let surveyor = try Self.surveyed(two, piece: piece)
            #expect(surveyor.contentByteCount == 2 * 165_543)
            #expect(surveyor.blockCount == 6)
            #expect(surveyor.streamCount == 2)
            let all = contents.flatMap { $0 }
            #expect(try Self.streamed(two, try XZStreamDecompressor(), piece: piece, room: 10_007) == all + all)
        }
        #expect(throws: CodecError.self) { try Self.surveyed(one + [0, 0]) }
        for count in [one.count - 1, one.count / 2, 12, 1] {
            let cut = Array(one.prefix(count))
            #expect(throws: CodecError.self) { try Self.surveyed(cut) }
            #expect(throws: CodecError.self) {
                try Self.streamed(cut, try XZStreamDecompressor(), piece: 4096, room: 4096)
            }
        }
    }

    /// Random damage: never a trap, a hang or other contents.
    @Test func hostileFiles() throws {
        let seed = Sample.seed()
        var random = seed
        func next(_ bound: Int) -> Int {
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(random >> 33) % bound
        }
        let contents = [Self.content(3000), Self.content(500)]
        let one = try Self.file(contents)
        let all = contents.flatMap { $0 }
        let frames = try Zstd.compress(contents[0]) + Zstd.compress(contents[1])
        for _ in 0..<600 {
            for (file, isXZ) in [(one, true), (frames, false)] {
                var damaged = file
                for _ in 0...next(3) { damaged[next(damaged.count)] = UInt8(next(256)) }
                if next(8) == 0 { damaged.removeLast(next(damaged.count)) }
                if isXZ { _ = try? Self.surveyed(damaged) }
                let decompressor: any StreamDecompressor =
                    isXZ ? try XZStreamDecompressor() : try ZstdStreamDecompressor()
                guard let result = try? Self.streamed(damaged, decompressor, piece: 97, room: 777) else { continue }
                // Whole frames may be missing behind a cut, and checksums can be switched off; no byte is invented.
                #expect(!isXZ || result == all, "seed \(seed)")
            }
        }
    }

    @Test func aDictionaryBeyondTheLimitIsRefused() throws {
        var block = try Self.compress(Self.content(4096), level: 6)
        // Section 5.3.1: the size of the dictionary is one byte, behind the sizes and the filter's id and its length;
        // 40 is 4 GiB. The header ends with a CRC-32.
        let end = (Int(block[0]) + 1) * 4
        let place = try #require((2..<end - 4).first { block[$0] == 0x21 && block[$0 + 1] == 1 })
        block[place + 2] = 40
        var crc: UInt32 = .max
        for byte in block[..<(end - 4)] {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
        }
        crc = ~crc
        for index in 0..<4 { block[end - 4 + index] = UInt8(truncatingIfNeeded: crc >> UInt32(index * 8)) }
        do {
            _ = try Self.decompress(block, byteCount: 4096)
            Issue.record("accepted")
        } catch {
            #expect("\(error)".contains("memory"))
        }
    }
}

@Suite struct ZstdStreamTests {
    @Test func framesOfAllSizesAreStreamed() throws {
        let contents = [XZTests.content(100_000), [], [1], [UInt8](repeating: 0, count: 300_000), XZTests.content(2)]
        var file: [UInt8] = []
        for content in contents { file += try Zstd.compress(content, level: 3) }
        // Skippable frames of other programs are skipped.
        file += [0x5E, 0x2A, 0x4D, 0x18, 9, 0, 0, 0] + [UInt8](repeating: 7, count: 9)
        file += ZeroFrame.bytes(zeros: 1000)
        let all = contents.flatMap { $0 } + [UInt8](repeating: 0, count: 1000)
        for (piece, room) in [(1, 50_000), (5, 100), (4096, 1 << 20), (1 << 20, 4096), (13, 4096)] {
            let decompressor = try ZstdStreamDecompressor()
            #expect(try XZTests.streamed(file, decompressor, piece: piece, room: room) == all)
            #expect(decompressor.hasUncheckedParts)
        }
        for cut in [1, 3, 4, 9, 20, 40] {
            #expect(throws: CodecError.self) {
                try XZTests.streamed(Array(file.dropLast(cut)), try ZstdStreamDecompressor(), piece: 512, room: 4096)
            }
        }
    }

    @Test func partsOfOurImagesAreRefused() throws {
        let part = [0x50, 0x2A, 0x4D, 0x18, 64, 0, 0, 0] + Array("RFCR".utf8) + [UInt8](repeating: 0, count: 60)
        let file = try Zstd.compress([1, 2, 3]) + part
        #expect(throws: CodecError.self) {
            try XZTests.streamed(file, try ZstdStreamDecompressor(), piece: 512, room: 4096)
        }
    }
}
