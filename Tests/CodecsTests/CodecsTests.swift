// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import Codecs

@Suite struct CodecsTests {
    @Test func framesRoundTripAndCarryAChecksum() throws {
        let bytes = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
        let frame = try Zstd.compress(bytes, level: 3)
        // Bit 2 of the frame header descriptor: the content checksum flag (RFC 8878 §3.1.1.1.1.6).
        #expect(frame[4] & 4 != 0)
        #expect(try Zstd.decompress(frame, limit: bytes.count) == bytes)
        #expect(throws: CodecError.self) { try Zstd.decompress(frame, limit: bytes.count - 1) }
        for position in stride(from: 0, to: frame.count, by: max(1, frame.count / 97)) {
            var damaged = frame
            damaged[position] ^= 0x10
            #expect((try? Zstd.decompress(damaged, limit: bytes.count)) != bytes)
        }
    }

    @Test(arguments: [1, 511, 131_072, 131_073, 4 << 20, 10_000_001] as [UInt64])
    func zeroFramesAreZstd(byteCount: UInt64) throws {
        let frame = ZeroFrame.bytes(zeros: byteCount)
        #expect(frame.count == ZeroFrame.frameByteCount(zeros: byteCount))
        let content = try Zstd.decompress(frame, limit: Int(byteCount))
        #expect(content.count == Int(byteCount))
        #expect(content.allSatisfy { $0 == 0 })
    }

    @Test func hashMatchesThePublishedVector() {
        // FIPS 180-4 example: "abc".
        let hash = ContentHash(of: Array("abc".utf8))
        #expect(hash.description == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(ContentHash(hexadecimal: hash.description) == hash)
        #expect(ContentHash(bytes: hash.bytes) == hash)
        var running = ContentHash.Running()
        running.update(Array("a".utf8))
        running.update(Array("bc".utf8))
        #expect(running.finish() == hash)
    }

    @Test(arguments: [0, 1, 7, 8, 511, 512, 513, 4096, 70_001])
    func zeroTestFindsOneBit(byteCount: Int) {
        var bytes = [UInt8](repeating: 0, count: byteCount)
        #expect(bytes.withUnsafeBytes(ZeroTest.isZero))
        for position in Set([0, byteCount / 2, byteCount - 1]) where position >= 0 && position < byteCount {
            bytes[position] = 1
            #expect(!bytes.withUnsafeBytes(ZeroTest.isZero))
            bytes[position] = 0
        }
    }
}
