// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The partitions of a disk in their order: computes starts for given lengths. Plain arithmetic, in bytes.
///
/// A valid start is the place where an item stays, or any multiple of the alignment. From a given cursor on, the least
/// valid start never falls as the cursor rises, so packing every item as early as possible gives the least end of all
/// layouts, and packing from the end gives the latest start of each that leaves room for the rest.
struct PartitionRow {
    /// A partition, or the first EBR of an extended one.
    struct Item {
        /// Its old start, kept if possible; `nil` if it cannot be kept (it is not at a sector of the target).
        var home: UInt64?
        /// The preferred start if the old one cannot be kept.
        var wanted: UInt64
        /// The least start.
        var floor: UInt64 = 0
        /// The room that it needs before it, for its EBR.
        var lead: UInt64 = 0

        func least(after cursor: UInt64) -> UInt64? {
            let (sum, overflow) = cursor.addingReportingOverflow(lead)
            return overflow ? nil : max(sum, floor)
        }
    }

    var items: [Item]
    /// The least start of the first item.
    var front: UInt64
    /// The upper limit for the end of the last item.
    var limit: UInt64
    var alignment: UInt64
    /// The last start that the table can address.
    var lastStart: UInt64

    /// The earliest start of each item; `nil` on overflow or beyond the table's range.
    func earliest(_ lengths: [UInt64]) -> [UInt64]? {
        var starts: [UInt64] = []
        starts.reserveCapacity(items.count)
        var cursor = front
        for (item, length) in zip(items, lengths) {
            guard let from = item.least(after: cursor) else { return nil }
            var start = from.roundedUp(toMultipleOf: alignment)
            if let home = item.home, home >= from { start = min(home, start ?? home) }
            guard let start, start <= lastStart else { return nil }
            let (end, overflow) = start.addingReportingOverflow(length)
            guard !overflow else { return nil }
            starts.append(start)
            cursor = end
        }
        return starts
    }

    /// The least end of all layouts with these lengths.
    func leastEnd(_ lengths: [UInt64]) -> UInt64? {
        guard let starts = earliest(lengths) else { return nil }
        guard let start = starts.last, let length = lengths.last else { return front }
        return start + length
    }

    /// Whether these lengths fit.
    func fits(_ lengths: [UInt64]) -> Bool { leastEnd(lengths).map { $0 <= limit } ?? false }

    /// The latest start of each item from `index` on that leaves room for those behind it.
    func latest(_ lengths: [UInt64], from index: Int = 0) -> [UInt64]? {
        var starts: [UInt64] = []
        var end = limit
        for (item, length) in zip(items[index...], lengths[index...]).reversed() {
            guard end >= length else { return nil }
            let last = min(end - length, lastStart)
            var start = last.roundedDown(toMultipleOf: alignment)
            if let home = item.home, home <= last { start = max(home, start) }
            guard start >= item.floor, start >= item.lead else { return nil }
            starts.append(start)
            end = start - item.lead
        }
        return starts.reversed()
    }

    /// The end of the room of an item: the end of the disk, or the space that the next item needs.
    func end(of index: Int, _ lengths: [UInt64]) -> UInt64? {
        guard index + 1 < items.count else { return limit }
        return latest(lengths, from: index + 1)?.first.map { $0 - items[index + 1].lead }
    }

    /// Starts for these lengths with the fewest moves: an item stays unless an item before it takes its place (then it
    /// moves up to the next boundary), or its end would be too far back (then it moves down to the first one).
    func place(_ lengths: [UInt64]) -> [UInt64]? {
        guard let latest = latest(lengths) else { return nil }
        var starts: [UInt64] = []
        var cursor = front
        for (index, item) in items.enumerated() {
            guard let from = item.least(after: cursor), from <= latest[index] else { return nil }
            let start: UInt64
            if let home = item.home, home >= from, home <= latest[index] {
                start = home
            } else if item.home == nil, let near = max(from, item.wanted).roundedUp(toMultipleOf: alignment),
                near <= latest[index]
            {
                start = near
            } else {
                guard let packed = from.roundedUp(toMultipleOf: alignment), packed <= latest[index] else { return nil }
                start = packed
            }
            starts.append(start)
            cursor = start + lengths[index]
        }
        return starts
    }

    /// The row with every item at its present start, or further back.
    func settled(at starts: [UInt64]) -> PartitionRow {
        var row = self
        for (index, start) in starts.enumerated() {
            row.items[index].home = start
            row.items[index].floor = start
        }
        return row
    }
}
