// SPDX-License-Identifier: GPL-3.0-or-later
import TestSupport
import Testing

@testable import DiskModel

@Suite struct AllocationMapTests {
    /// Compared with a plain array of flags, over random insertions.
    @Test func agreesWithFlags() {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        for _ in 0..<300 {
            let length = UInt64.random(in: 1...200, using: &random)
            var map = AllocationMap(byteCount: length)
            var flags = [Bool](repeating: false, count: Int(length))
            for _ in 0..<Int.random(in: 0...30, using: &random) {
                let start = UInt64.random(in: 0...length + 10, using: &random)
                let range = start..<start + UInt64.random(in: 0...40, using: &random)
                map.insert(range)
                for index in range where index < length { flags[Int(index)] = true }
            }
            #expect(self.flags(of: map) == flags, "seed \(seed)")
            #expect(
                zip(map.ranges, map.ranges.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound }, "seed \(seed)")
            #expect(map.usedByteCount == UInt64(flags.count { $0 }), "seed \(seed)")
            #expect(self.flags(of: map.complement) == flags.map { !$0 }, "seed \(seed)")
            let window = UInt64.random(in: 0...length, using: &random)..<length
            var inWindow = AllocationMap(byteCount: length)
            for range in map.ranges(in: window) { inWindow.insert(range) }
            #expect(
                self.flags(of: inWindow) == flags.enumerated().map { $0.element && window.contains(UInt64($0.offset)) })
            let coalesced = map.coalesced(toAtMost: 3)
            #expect(coalesced.ranges.count <= 3 && map.isSubset(of: coalesced), "seed \(seed)")
            let unit = UInt64.random(in: 1...9, using: &random)
            let widened = (0..<Int(length)).map { index in
                let start = index / Int(unit) * Int(unit)
                return flags[start..<min(start + Int(unit), Int(length))].contains(true)
            }
            #expect(self.flags(of: map.widened(toMultiplesOf: unit)) == widened, "seed \(seed)")
            var shifted = AllocationMap(byteCount: length + 50)
            shifted.insert(40..<45)
            shifted.insert(contentsOf: map, offset: 50)
            #expect(shifted.usedByteCount == map.usedByteCount + 5)
        }
    }

    private func flags(of map: AllocationMap) -> [Bool] {
        var flags = [Bool](repeating: false, count: Int(map.byteCount))
        for range in map.ranges { for index in range { flags[Int(index)] = true } }
        return flags
    }

    @Test func rangesNearTheEndOfSixtyFourBits() {
        #expect(ByteRange(offset: .max, byteCount: 1) == nil)
        #expect((UInt64.max - 5..<UInt64.max - 1).shifted(up: 10) == nil)
    }
}
