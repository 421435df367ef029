// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import TestSupport
import Testing

@testable import ImageModel

@Suite struct SnapshotDiffTests {
    @Test func countsWhatChanged() throws {
        let fixture = try PruneFixture()
        let disk = try fixture.disk()
        let first = try fixture.capture(disk)
        var next = disk
        next.header.manifest.started = "2026-01-03T03:04:05Z"
        // Two chunks of the partition, and one of the gap before it.
        let inside = disk.chunks.filter { $0.kind == .data && $0.region == 1 }
        let outside = try #require(disk.chunks.first { $0.kind == .data && $0.region == 0 })
        let chunks = [try #require(inside.first), try #require(inside.last)]
        for chunk in chunks + [outside] { next.bytes[Int(chunk.range.lowerBound)] ^= 0xFF }
        let second = try fixture.capture(next)

        let same = try fixture.repository.diff(first, first)
        #expect(same.changedByteCount == 0 && same.regions.count == 3)
        let diff = try fixture.repository.diff(first, second)
        #expect(diff.first.id == first && diff.second.id == second)
        #expect(diff.regions.map(\.partition) == [nil, 1, nil])
        #expect(diff.regions[1].changedByteCount == Set(chunks.map(\.range)).reduce(0) { $0 + $1.byteCount })
        #expect(diff.regions[0].changedByteCount == outside.range.byteCount)
        #expect(diff.regions[2].changedByteCount == 0)
        #expect(diff.regions.allSatisfy { $0.addedByteCount == 0 && $0.removedByteCount == 0 })
        #expect(diff.regions[1].label == "one, ext4")
        #expect(diff.regions[1].firstUsedByteCount == disk.header.maps[1].usedByteCount)
    }

    /// Compared with the bytes themselves.
    @Test func agreesWithTheBytes() throws {
        let fixture = try PruneFixture()
        for _ in 0..<6 {
            let one = try fixture.disk(byteCount: 512 * Int.random(in: 1...4000, using: &fixture.random))
            let other =
                Bool.random(using: &fixture.random)
                ? fixture.changed(one)
                : try fixture.disk(byteCount: 512 * Int.random(in: 1...4000, using: &fixture.random))
            let first = try fixture.capture(one)
            let second = try fixture.capture(other)
            let region = try #require(try fixture.repository.diff(first, second).regions.first { $0.partition == 1 })
            /// The chunks of the partition: kind and bytes.
            func chunks(_ disk: MadeUpDiskCapture) -> [(kind: RangeKind, bytes: [UInt8])] {
                disk.chunks.filter { $0.region == 1 }.map {
                    ($0.kind, Array(disk.bytes[Int($0.range.lowerBound)..<Int($0.range.upperBound)]))
                }
            }
            let (a, b) = (chunks(one), chunks(other))
            var changed = 0
            var added = 0
            var removed = 0
            for index in 0..<max(a.count, b.count) {
                let left = index < a.count ? a[index] : nil
                let right = index < b.count ? b[index] : nil
                guard left?.kind == .data || right?.kind == .data else { continue }
                if left?.kind == right?.kind, left?.bytes == right?.bytes { continue }
                let count = max(left?.bytes.count ?? 0, right?.bytes.count ?? 0)
                changed += count
                if left == nil || left?.kind == .unused { added += count }
                if right == nil || right?.kind == .unused { removed += count }
            }
            #expect(region.changedByteCount == UInt64(changed))
            #expect(region.addedByteCount == UInt64(added) && region.removedByteCount == UInt64(removed))
        }
    }

    @Test func matchesPartitionsByIdentity() throws {
        let fixture = try PruneFixture()
        let disk = try fixture.disk()
        let first = try fixture.capture(disk)
        // The same partition under another number.
        var renumbered = disk
        renumbered.header.manifest.table.partitions[0].number = 7
        renumbered.header.manifest.regions[1].partition = 7
        let second = try fixture.capture(renumbered)
        let diff = try fixture.repository.diff(first, second)
        #expect(diff.changedByteCount == 0 && diff.regions[1].partition == 7)
        // Another partition with the same number.
        var replaced = disk
        replaced.header.manifest.table.partitions[0].guid = .random()
        let third = try fixture.capture(replaced)
        #expect(try fixture.repository.diff(first, third).regions.count == 3)
        // Neither number nor GUID: one was removed, one was added.
        var other = disk
        other.header.manifest.table.partitions[0].number = 2
        other.header.manifest.table.partitions[0].guid = .random()
        other.header.manifest.regions[1].partition = 2
        let fourth = try fixture.capture(other)
        let regions = try fixture.repository.diff(first, fourth).regions
        #expect(regions.count == 4)
        let gone = try #require(regions.first { $0.partition == 1 })
        let come = try #require(regions.first { $0.partition == 2 })
        // All of its chunks may happen to be zero.
        let data = disk.chunks.filter { $0.region == 1 && $0.kind == .data }.reduce(0) { $0 + $1.range.byteCount }
        #expect(gone.secondRange == nil && gone.changedByteCount == data && gone.removedByteCount == data)
        #expect(come.firstRange == nil && come.changedByteCount == data && come.addedByteCount == data)
    }
}
