// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// Which byte ranges of a volume are in use: sorted, disjoint, never touching, all inside `0..<byteCount`.
///
/// A map may only err towards *more*: bytes that are not listed may be dropped.
package struct AllocationMap: Equatable, Sendable {
    /// The length of the volume in bytes.
    package let byteCount: UInt64
    /// The ranges in use, ascending.
    package private(set) var ranges: [ByteRange]

    /// A map with nothing in use.
    package init(byteCount: UInt64) {
        self.byteCount = byteCount
        ranges = []
    }

    /// A map with everything in use.
    package static func whole(byteCount: UInt64) -> AllocationMap {
        var map = AllocationMap(byteCount: byteCount)
        map.insert(0..<byteCount)
        return map
    }

    /// A map of ranges in any order; parts outside of the volume are cut off.
    package init(byteCount: UInt64, unsorted: [ByteRange]) {
        self.init(byteCount: byteCount)
        for range in unsorted.sorted(by: { $0.lowerBound < $1.lowerBound }) { insert(range) }
    }

    /// The number of bytes in use.
    package var usedByteCount: UInt64 { ranges.reduce(0) { $0 + $1.byteCount } }

    /// Marks a range as used; parts outside of the volume are cut off. Appending in ascending order costs O(1); any
    /// other insertion costs O(log n) and the move of the ranges behind it.
    package mutating func insert(_ range: ByteRange) {
        let range = range.clamped(to: 0..<byteCount)
        guard !range.isEmpty else { return }
        guard let last = ranges.last else {
            ranges.append(range)
            return
        }
        if range.lowerBound > last.upperBound {
            ranges.append(range)
        } else if range.lowerBound >= last.lowerBound {
            ranges[ranges.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
        } else {
            // The first range that ends at or after the new start, and the first that starts after the new end.
            let first = partitioningIndex { $0.upperBound >= range.lowerBound }
            let end = partitioningIndex { $0.lowerBound > range.upperBound }
            var merged = range
            if first < end {
                merged =
                    min(range.lowerBound, ranges[first].lowerBound)..<max(range.upperBound, ranges[end - 1].upperBound)
            }
            ranges.replaceSubrange(first..<end, with: CollectionOfOne(merged))
        }
    }

    /// Marks every range of `other` as used, shifted up by `offset` bytes.
    package mutating func insert(contentsOf other: AllocationMap, offset: UInt64 = 0) {
        guard other.ranges.count > 16, let last = ranges.last, let first = other.ranges.first,
            let start = first.shifted(up: offset)?.lowerBound, start <= last.upperBound
        else {
            for range in other.ranges { range.shifted(up: offset).map { insert($0) } }
            return
        }
        self = AllocationMap(
            byteCount: byteCount, unsorted: ranges + other.ranges.compactMap { $0.shifted(up: offset) })
    }

    /// The unused ranges, ascending.
    package var complement: AllocationMap {
        var result = AllocationMap(byteCount: byteCount)
        var position: UInt64 = 0
        for range in ranges {
            result.insert(position..<range.lowerBound)
            position = range.upperBound
        }
        result.insert(position..<byteCount)
        return result
    }

    /// The used ranges inside `window`, clipped to it.
    package func ranges(in window: ByteRange) -> [ByteRange] {
        var result: [ByteRange] = []
        var index = partitioningIndex { $0.upperBound > window.lowerBound }
        while index < ranges.count, ranges[index].lowerBound < window.upperBound {
            result.append(ranges[index].clamped(to: window))
            index += 1
        }
        return result
    }

    /// The first used byte at or behind `offset`; `nil` without one.
    package func firstUsed(from offset: UInt64) -> UInt64? {
        let index = partitioningIndex { $0.upperBound > offset }
        return index < ranges.count ? max(offset, ranges[index].lowerBound) : nil
    }

    /// The first unused byte of `range`; `nil` if all are used.
    package func firstUnused(in range: ByteRange) -> UInt64? {
        guard !range.isEmpty else { return nil }
        let index = partitioningIndex { $0.upperBound > range.lowerBound }
        guard index < ranges.count, ranges[index].lowerBound <= range.lowerBound else { return range.lowerBound }
        return ranges[index].upperBound >= range.upperBound ? nil : ranges[index].upperBound
    }

    /// The map with every range widened to whole units of `unit` bytes (not 0), counted from byte 0.
    package func widened(toMultiplesOf unit: UInt64) -> AllocationMap {
        guard unit > 1 else { return self }
        var result = AllocationMap(byteCount: byteCount)
        for range in ranges {
            result.insert(
                range.lowerBound.roundedDown(
                    toMultipleOf: unit)..<(range.upperBound.roundedUp(toMultipleOf: unit)
                    ?? byteCount))
        }
        return result
    }

    /// Whether every byte of `range` is used.
    package func covers(_ range: ByteRange) -> Bool {
        guard !range.isEmpty else { return true }
        let index = partitioningIndex { $0.upperBound > range.lowerBound }
        return index < ranges.count && ranges[index].covers(range)
    }

    /// Whether every byte used here is used in `other` too.
    package func isSubset(of other: AllocationMap) -> Bool { ranges.allSatisfy(other.covers) }

    /// The map with its smallest gaps marked as used until it has at most `limit` ranges: memory stays bounded,
    /// however fragmented a volume is. It errs towards more, as a map may.
    package func coalesced(toAtMost limit: Int) -> AllocationMap {
        guard ranges.count > limit, limit > 0 else { return self }
        let gaps = zip(ranges, ranges.dropFirst()).map { $1.lowerBound - $0.upperBound }.sorted()
        let threshold = gaps[ranges.count - limit - 1]
        var result = AllocationMap(byteCount: byteCount)
        for range in ranges {
            if let last = result.ranges.last, range.lowerBound - last.upperBound <= threshold {
                result.insert(last.lowerBound..<range.upperBound)
            } else {
                result.insert(range)
            }
        }
        return result
    }

    /// The index of the first range that meets `condition`; all ranges behind it must meet it too.
    private func partitioningIndex(where condition: (ByteRange) -> Bool) -> Int {
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if condition(ranges[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
