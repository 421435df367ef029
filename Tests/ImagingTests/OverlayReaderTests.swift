// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import TestSupport
import Testing

@testable import Imaging

@Suite struct OverlayReaderTests {
    private let seed = Sample.seed()

    private func noise(_ count: Int, _ random: inout SeededGenerator) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) }
    }

    /// Random pieces of random devices, read at random: each byte comes from the right device and offset.
    @Test func everyByteComesFromItsDevice() throws {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<50 {
            let base = noise(4096, &random)
            let others = (0..<3).map { _ in noise(2048, &random) }
            let readers = others.map { MemoryDisk($0) }
            var expected = base
            var overlays: [OverlayReader.Overlay] = []
            var position = Int.random(in: 0...600, using: &random)
            while position < base.count {
                let count = min(Int.random(in: 0...700, using: &random), base.count - position)
                let device = Int.random(in: 0..<3, using: &random)
                let place = Int.random(in: 0...(2048 - count), using: &random)
                expected.replaceSubrange(position..<position + count, with: others[device][place..<place + count])
                overlays.append(
                    .init(UInt64(position)..<UInt64(position + count), from: readers[device], at: UInt64(place)))
                position += count + (Bool.random(using: &random) ? 0 : Int.random(in: 0...600, using: &random))
            }
            overlays.shuffle(using: &random)
            let reader = try #require(OverlayReader(MemoryDisk(base), overlays: overlays))
            #expect(try reader.readBytes(at: 0, count: base.count) == expected, "seed \(seed)")
            for _ in 0..<40 {
                let start = Int.random(in: 0...base.count, using: &random)
                let count = Int.random(in: 0...(base.count - start), using: &random)
                #expect(
                    try reader.readBytes(at: UInt64(start), count: count) == Array(expected[start..<start + count]),
                    "\(count) at \(start), seed \(seed)")
            }
        }
    }

    @Test func impossibleOverlaysAreRefused() {
        let base = MemoryDisk(byteCount: 4096)
        let other = MemoryDisk(byteCount: 1024)
        func make(_ pieces: (ByteRange, UInt64)...) -> OverlayReader? {
            OverlayReader(base, overlays: pieces.map { .init($0.0, from: other, at: $0.1) })
        }
        #expect(make((0..<512, 512), (512..<1024, 0)) != nil)
        #expect(make((0..<513, 0), (512..<1024, 0)) == nil, "they overlap")
        #expect(make((4000..<4097, 0)) == nil, "past the disk's end")
        #expect(make((0..<512, 513)) == nil, "past the other device's end")
        #expect(make((0..<512, .max)) == nil, "past 64 bits")
    }

    @Test func errorsAndEndsAreReported() throws {
        let other = MemoryDisk(byteCount: 1024, name: "snapshot")
        other.makeUnreadable(0..<1)
        let reader = try #require(
            OverlayReader(MemoryDisk(byteCount: 4096), overlays: [.init(1024..<2048, from: other, at: 0)]))
        #expect(try reader.readBytes(at: 0, count: 1024) == [UInt8](repeating: 0, count: 1024))
        #expect { try reader.readBytes(at: 0, count: 1025) } throws: { ($0 as? BlockIOError)?.name == "snapshot" }
        var byte: [UInt8] = [0]
        #expect(throws: BlockIOError.self) { try byte.withUnsafeMutableBytes { try reader.read(into: $0, at: 4096) } }
    }
}
