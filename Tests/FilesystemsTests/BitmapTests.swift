// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import TestSupport
import Testing

@testable import Filesystems

@Suite struct BitmapTests {
    @Test func runsAreThoseOfAPlainLoop() throws {
        var random = Sample.generator(2000)
        for _ in 0..<300 {
            let byteCount = Int.random(in: 1...40, using: &random)
            let choices: [UInt8] = [0, 0, 0xFF, 0xFF, 0x0F, 0xA5, UInt8.random(in: 0...255, using: &random)]
            let bytes = (0..<byteCount).map { _ in choices.randomElement(using: &random) ?? 0 }
            let offset = Int.random(in: 0..<byteCount, using: &random)
            let bitCount = Int.random(in: 0...(byteCount - offset) * 8, using: &random)
            let expected = (0..<bitCount).filter { bytes[offset + $0 / 8] >> ($0 % 8) & 1 == 1 }
            var runs: [Range<Int>] = []
            let count = Bitmap.forEachRun(in: bytes, at: offset, bitCount: bitCount) { runs.append($0) }
            #expect(count == expected.count)
            #expect(Array(runs.joined()) == expected, "seed \(Sample.seed)")
            #expect(zip(runs, runs.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
        }
        #expect(Bitmap.forEachRun(in: [1], at: 0, bitCount: 9) { _ in } == nil)
        #expect(Bitmap.forEachRun(in: [1], at: 2, bitCount: 0) { _ in } == nil)
    }

    @Test func memoryStaysBoundedAndNothingIsLost() throws {
        var random = Sample.generator(2001)
        var accumulator = RangeAccumulator(limit: 100)
        var all = AllocationMap(byteCount: 1 << 40)
        var position: UInt64 = 0
        for _ in 0..<5000 {
            position += UInt64.random(in: 1...1 << 20, using: &random)
            let end = position + UInt64.random(in: 1...1 << 16, using: &random)
            accumulator.append(position..<end)
            all.insert(position..<end)
            position = end
            #expect(accumulator.ranges.count <= 100)
        }
        let map = accumulator.map(byteCount: 1 << 40, others: [5..<6, 1 << 39..<(1 << 39) + 1])
        #expect(all.isSubset(of: map))
        #expect(map.covers(5..<6) && map.covers(1 << 39..<(1 << 39) + 1))
        #expect(map.ranges.count <= 101)
    }

    @Test func checksumsOfArraysAreThoseOfSequences() {
        var random = Sample.generator(2002)
        for byteCount in 0..<80 {
            let bytes = (0..<byteCount).map { _ in UInt8.random(in: 0...255, using: &random) }
            for crc in [CRC32.iso, CRC32.castagnoli] {
                #expect(crc.update(12_345, bytes) == crc.update(12_345, AnySequence(bytes)))
                #expect(crc.checksum(bytes) == crc.checksum(AnySequence(bytes)))
            }
        }
    }
}
