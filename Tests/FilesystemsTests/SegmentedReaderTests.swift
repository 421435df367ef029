// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import TestSupport
import Testing

@testable import Filesystems

struct SegmentedReaderTests {
    /// Random volumes in random pieces: reads and maps equal those of a copy that was joined byte by byte.
    @Test func agreesWithACopy() throws {
        var random = Sample.generator(5700)
        for round in 0..<200 {
            let comment: Comment = "seed \(Sample.seed), round \(round)"
            let bytes = (0..<4096).map { _ in UInt8.random(in: 0...255, using: &random) }
            var free = Array(stride(from: 0, to: 4096, by: 64)).shuffled(using: &random)
            var segments: [VolumeSegment] = []
            var joined: [Int] = []
            for _ in 0..<Int.random(in: 1...20, using: &random) {
                let place = free.removeLast()
                let length = Int.random(in: 1...64, using: &random)
                segments.append(
                    VolumeSegment(start: UInt64(joined.count), place: UInt64(place)..<UInt64(place + length)))
                joined += place..<place + length
            }
            let reader = try #require(SegmentedReader(MemoryDisk(bytes), name: "volume", segments: segments), comment)
            #expect(reader.byteCount == UInt64(joined.count), comment)
            for _ in 0..<20 {
                let start = Int.random(in: 0...joined.count, using: &random)
                let count = Int.random(in: 0...joined.count - start, using: &random)
                let expected = joined[start..<start + count].map { bytes[$0] }
                #expect(try reader.readBytes(at: UInt64(start), count: count) == expected, comment)
            }
            #expect(throws: BlockIOError.self, comment) { try reader.readBytes(at: 1, count: joined.count) }

            let used = AllocationMap(
                byteCount: reader.byteCount,
                unsorted: (0..<5).map { _ in
                    let start = UInt64.random(in: 0..<reader.byteCount, using: &random)
                    return start..<start + UInt64.random(in: 1...100, using: &random)
                })
            var places: Set<UInt64> = []
            segments.forEachPlace(of: used.ranges) { places.formUnion($0) }
            let expected = used.ranges.flatMap { range in range.map { UInt64(joined[Int($0)]) } }
            #expect(places == Set(expected) && places.count == expected.count, comment)
        }
    }

    @Test func partsThatDoNotJoinAreRefused() {
        let disk = MemoryDisk(byteCount: 4096)
        func reader(_ segments: [VolumeSegment]) -> SegmentedReader? {
            SegmentedReader(disk, name: "volume", segments: segments)
        }
        #expect(reader([VolumeSegment(start: 0, place: 0..<4096)]) != nil)
        #expect(reader([VolumeSegment(start: 0, place: 0..<4097)]) == nil)
        #expect(reader([VolumeSegment(start: 1, place: 0..<10)]) == nil)
        #expect(reader([VolumeSegment(start: 0, place: 0..<10), VolumeSegment(start: 11, place: 20..<30)]) == nil)
        #expect(reader([VolumeSegment(start: 0, place: 0..<0)]) == nil)
    }
}
