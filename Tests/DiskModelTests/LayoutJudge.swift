// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

@testable import DiskModel

/// The invariants of every layout, computed independently of the planner.
struct LayoutJudge {
    let question: RandomLayoutCase
    let layout: DiskLayout
    let unit: UInt64
    let alignment: UInt64
    private let partitions: [Int: Partition]

    init(_ question: RandomLayoutCase, _ layout: DiskLayout) {
        self.question = question
        self.layout = layout
        unit = UInt64(question.target.logicalSectorSize)
        alignment = question.target.partitionAlignment
        partitions = Dictionary(uniqueKeysWithValues: question.table.partitions.map { ($0.number, $0) })
    }

    private var isMBR: Bool { question.table.kind == .mbr }
    private var entries: UInt64 { (UInt64(question.table.entryCount) * 128 + unit - 1) / unit * unit }
    /// The upper limit for the end of partitions.
    var limit: UInt64 {
        let whole = question.target.byteCount / unit * unit
        return isMBR ? isIdentity ? whole : min(whole, UInt64(UInt32.max) * unit) : whole - entries - unit
    }

    private func rounded(_ byteCount: UInt64) -> UInt64 { (byteCount + unit - 1) / unit * unit }
    private func role(_ placement: DiskLayout.Placement) -> Partition.MBREntry.Role? {
        partitions[placement.number]?.mbr?.role
    }

    /// The violated invariants.
    func failures() -> [String] { placeFailures() + lengthFailures() + extendedFailures() }

    private func placeFailures() -> [String] {
        var failures: [String] = []
        let volumes = layout.placements.filter { role($0) != .extended }.sorted { $0.to.lowerBound < $1.to.lowerBound }
        for (first, second) in zip(volumes, volumes.dropFirst()) {
            if first.to.upperBound > second.to.lowerBound {
                failures.append("\(first.number) overlaps \(second.number)")
            }
            if first.from.lowerBound > second.from.lowerBound { failures.append("order") }
        }
        let firstStart = question.table.partitions.map(\.range.lowerBound).min() ?? 0
        let front = max(isMBR ? unit : 2 * unit + entries, firstStart)
        for placement in layout.placements {
            let to = placement.to
            if partitions[placement.number]?.range != placement.from { failures.append("another from") }
            if to.upperBound > limit || to.lowerBound < front { failures.append("\(placement.number) outside") }
            if to.lowerBound % unit != 0 || to.upperBound % unit != 0 { failures.append("sector") }
            if placement.isMoved, to.lowerBound % alignment != 0 { failures.append("\(placement.number) not aligned") }
            if isMBR, !isIdentity, to.lowerBound / unit > UInt64(UInt32.max) || to.byteCount / unit > UInt64(UInt32.max)
            {
                failures.append("\(placement.number) not in 32 bits")
            }
        }
        return failures
    }

    private func lengthFailures() -> [String] {
        var failures: [String] = []
        let isKeep = question.request.policy == .keep
        for partition in question.table.partitions where partition.isVolume {
            let number = partition.number
            let wish = question.request.wishes[number]
            guard let placement = layout.placements.first(where: { $0.number == number }) else {
                if wish != .drop { failures.append("\(number) is missing") }
                continue
            }
            let length = placement.to.byteCount
            let captured = rounded(partition.range.byteCount)
            let ability = question.abilities[number]
            let least = rounded(ability?.leastByteCount ?? 0)
            if length != captured, placement.to.lowerBound < 1 << 20 {
                failures.append("\(number) is resized in the first MiB")
            }
            if length < least || length == 0 { failures.append("\(number) is below its least") }
            if ability?.canShrink != true, length < captured { failures.append("\(number) was made smaller") }
            switch wish {
            case .drop: failures.append("\(number) was to be dropped")
            case .keep: if length != captured { failures.append("\(number) was to keep its size") }
            case .size(let wished): if length != rounded(wished) { failures.append("\(number) has a wrong size") }
            case .rest:
                let behind = gap(behind: placement)
                if behind >= alignment + unit { failures.append("\(number) has not all the rest") }
                // An EBR, and the extended partition's first one, may each take an alignment unit before the
                // partition; and a partition at an unaligned home has its spare room before it.
                let isAtHome = placement.to.lowerBound % alignment != 0
                let front = gap(inFrontOf: placement)
                if isAtHome ? front + behind >= 3 * alignment + 3 * unit : front >= 2 * alignment + 2 * unit {
                    failures.append("\(number) leaves room in front of it")
                }
            case nil:
                let base = max(captured, least)
                if isKeep, length != base { failures.append("\(number) was to keep its size by policy") }
                if length > base, ability?.canGrow != true { failures.append("\(number) grew and cannot") }
            }
        }
        return failures + growthFailures() + shrinkFailures() + unusedFailures()
    }

    /// The free bytes between a partition and the next one.
    private func gap(behind placement: DiskLayout.Placement) -> UInt64 {
        let next = layout.placements.map(\.to.lowerBound).filter { $0 >= placement.to.upperBound }.min() ?? limit
        return min(next, limit) - placement.to.upperBound
    }

    /// The free bytes before a partition: from the end of the previous one, or from the first usable place.
    private func gap(inFrontOf placement: DiskLayout.Placement) -> UInt64 {
        let start = placement.to.lowerBound
        let ends = layout.placements.filter { role($0) != .extended }.map(\.to.upperBound).filter { $0 <= start }
        let front = question.table.partitions.map(\.range.lowerBound).min() ?? 0
        // A resized partition stays out of the first MiB.
        return start - min(start, max(ends.max() ?? 0, front, 1 << 20))
    }

    /// Partitions are not shrunk more than needed: the unused rest is less than the alignment.
    private func shrinkFailures() -> [String] {
        layout.placements.compactMap { placement in
            guard role(placement) != .extended, placement.isShrunk, question.request.wishes[placement.number] == nil
            else { return nil }
            let isTight = gap(behind: placement) < 2 * alignment + unit
            return isTight ? nil : "\(placement.number) was made smaller than needed"
        }
    }

    /// With more room, the last partition that can grow leaves none of it.
    private func unusedFailures() -> [String] {
        let isLarger = question.target.byteCount / unit * unit > question.source.byteCount
        let isUnusual = layout.remarks.contains(.unusualTable)
        guard isLarger, !isUnusual, question.request.policy != .keep, !layout.placements.contains(where: \.isShrunk),
            !question.request.wishes.values.contains(.rest)
        else { return [] }
        let growing = growing
        guard let last = growing.last else { return [] }
        if question.request.policy == .grow, growing.contains(where: { $0.number != last.number && grew($0) }) {
            return ["another than the last one grew"]
        }
        // A partition in the first MiB stays there where leaving it would gain no more than it costs: that MiB, and an
        // alignment unit for each partition that moves up with it.
        let cost =
            last.to.lowerBound < 1 << 20 ? (1 << 20) + alignment * UInt64(layout.placements.count) : 0
        return gap(behind: last) < alignment + unit + cost ? [] : ["\(last.number) did not take what there is"]
    }

    /// The partitions that the policy may grow, in order.
    private var growing: [DiskLayout.Placement] {
        layout.placements.filter { placement in
            guard let partition = partitions[placement.number], question.request.wishes[placement.number] == nil else {
                return false
            }
            return question.abilities[placement.number]?.canGrow == true
                && !LayoutPlanner.isSpecial(partition, question.filesystems[placement.number])
        }.sorted { $0.to.lowerBound < $1.to.lowerBound }
    }

    /// Whether it is larger than before and larger than the target requires.
    private func grew(_ placement: DiskLayout.Placement) -> Bool {
        let least = rounded(question.abilities[placement.number]?.leastByteCount ?? 0)
        return placement.to.byteCount > max(rounded(placement.from.byteCount), least)
    }

    private func growthFailures() -> [String] {
        var failures: [String] = []
        let grown = layout.placements.filter {
            role($0) != .extended && question.request.wishes[$0.number] == nil && grew($0)
        }.sorted { $0.to.lowerBound < $1.to.lowerBound }
        // The last one that may grow takes the room; one before it gets its share, even where the last one has no room.
        guard !grown.isEmpty else { return [] }
        guard let last = growing.last, grown.allSatisfy({ one in growing.contains { $0.number == one.number } }) else {
            return ["one grew that may not"]
        }
        if question.request.policy == .grow, grown.last?.number != last.number {
            failures.append("another than the last one grew")
        }
        if question.request.wishes.values.contains(.rest) { failures.append("grew beside one that takes the rest") }
        if question.request.policy == .grow, grown.count > 1 { failures.append("several grown") }
        if gap(behind: last) >= alignment + unit,
            isMBR == false || last.to.byteCount < UInt64(UInt32.max) * unit - alignment
        {
            failures.append("\(last.number) left room")
        }
        // Shares in proportion to size, up to one alignment unit; the last one may have more.
        let extras = grown.map { placement -> (base: Double, extra: Double) in
            let least = rounded(question.abilities[placement.number]?.leastByteCount ?? 0)
            let base = max(rounded(placement.from.byteCount), least)
            return (Double(base), Double(placement.to.byteCount - base))
        }
        for (index, first) in extras.dropLast().enumerated() {
            for second in extras.dropFirst(index + 1) {
                let step = Double(alignment) * 1.001
                if (first.extra - step) / first.base > (second.extra + step) / second.base {
                    failures.append("not by size")
                }
            }
        }
        return failures
    }

    private func extendedFailures() -> [String] {
        var failures: [String] = []
        for extended in question.table.partitions where extended.mbr?.role == .extended {
            let inside = layout.placements.filter { role($0) == .logical }.sorted {
                $0.to.lowerBound < $1.to.lowerBound
            }
            let held = question.table.partitions.contains { $0.mbr?.role == .logical }
            guard let place = layout.placements.first(where: { $0.number == extended.number })?.to else {
                if !held || !inside.isEmpty { failures.append("the extended partition is missing") }
                continue
            }
            if held, inside.isEmpty { failures.append("an extended partition without logical ones") }
            var end = place.lowerBound
            for logical in inside {
                if !place.covers(logical.to) { failures.append("\(logical.number) is outside of the extended one") }
                if logical.to.lowerBound < end + unit { failures.append("no room for the EBR of \(logical.number)") }
                end = logical.to.upperBound
            }
            for placement in layout.placements where role(placement) == .primary && placement.to.overlaps(place) {
                failures.append("\(placement.number) lies in the extended one")
            }
        }
        return failures
    }

    /// Whether everything is at its old place.
    var isIdentity: Bool { layout.placements.allSatisfy { $0.from == $0.to } }
}
