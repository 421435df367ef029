// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// Collects used ranges that arrive in ascending order, in bounded memory: where there are too many, ever larger gaps
/// between them are marked as used, as a map may do.
struct RangeAccumulator {
    /// The limit of ranges in a map; 16 bytes each.
    static let standardLimit = 1 << 20

    private(set) var ranges: [ByteRange] = []
    private var closedGap: UInt64 = 0
    private let limit: Int

    init(limit: Int = RangeAccumulator.standardLimit) { self.limit = limit }

    /// Adds a range that starts at or after the start of the last one.
    mutating func append(_ range: ByteRange) {
        guard !range.isEmpty else { return }
        if let last = ranges.last,
            range.lowerBound <= last.upperBound || range.lowerBound - last.upperBound <= closedGap
        {
            ranges[ranges.count - 1] =
                min(last.lowerBound, range.lowerBound)..<max(last.upperBound, range.upperBound)
        } else {
            ranges.append(range)
            if ranges.count > limit { shrink() }
        }
    }

    /// Halves the list at least: the gap size that is marked as used doubles until then, 64 times at most.
    private mutating func shrink() {
        while ranges.count > limit / 2, closedGap < .max / 2 {
            closedGap = max(512, closedGap * 2)
            var kept: [ByteRange] = []
            for range in ranges {
                if let last = kept.last, range.lowerBound - last.upperBound <= closedGap {
                    kept[kept.count - 1] = last.lowerBound..<range.upperBound
                } else {
                    kept.append(range)
                }
            }
            ranges = kept
        }
    }

    /// The map of a volume of `byteCount` bytes: the collected ranges, and `others` in any order.
    func map(byteCount: UInt64, others: [ByteRange] = []) -> AllocationMap {
        var map = AllocationMap(byteCount: byteCount)
        for range in ranges { map.insert(range) }
        let missing = AllocationMap(byteCount: byteCount, unsorted: others).ranges.filter { !map.covers($0) }
        guard !missing.isEmpty else { return map }
        return AllocationMap(byteCount: byteCount, unsorted: map.ranges + missing).coalesced(toAtMost: limit)
    }
}
