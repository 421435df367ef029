// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

// Lengths for the available room: growing and shrinking.
extension LayoutSolver {
    /// The layout where everything fits as captured or requested, and partitions may grow.
    /// - Parameters:
    ///   - row: settled where everything fits, unless one partition takes the rest.
    ///   - starts: the starts with which everything fits.
    func grown(_ parts: [Part], _ row: PartitionRow, _ starts: [UInt64], _ bases: [UInt64]) -> DiskLayout {
        var row = row
        var lengths = bases
        var remarks: [LayoutRemark] = []
        let added = targetEnd > source.byteCount ? targetEnd - source.byteCount : 0
        let hasFreed =
            request.wishes.values.contains(.drop) || parts.contains { !$0.isRest && $0.base < $0.captured }
        if let rest = parts.firstIndex(where: \.isRest) {
            lengths[rest] = longest(rest, parts, row, lengths)
        } else if request.policy != .keep, added > 0 || hasFreed {
            let growing = parts.indices.filter { parts[$0].growsByPolicy }
            if let found = grownByPolicy(growing, parts, row, starts, bases) {
                (row, lengths) = found
            } else if growing.isEmpty, added > 0 {
                remarks.append(nothingGrows(parts, added))
            }
        }
        if added > 0, targetEnd > row.limit, row.limit == reach.roundedDown(toMultipleOf: unit) {
            remarks.append(.endUnused(byteCount: targetEnd - row.limit, sectorSize: unit, reach: reach))
        }
        guard let grownStarts = row.place(lengths) else {
            return layout(parts, row, bases, starts, remarks: remarks)
        }
        return layout(parts, row, lengths, grownStarts, remarks: remarks)
    }

    /// The row and the lengths where the policy enlarges partitions; `nil` if no partition gets larger.
    ///
    /// The first MiB is written last (the commit point), so a partition that starts in it cannot be resized there: it
    /// moves behind the MiB if that gains more than it costs.
    private func grownByPolicy(
        _ growing: [Int], _ parts: [Part], _ row: PartitionRow, _ starts: [UInt64], _ bases: [UInt64]
    ) -> (PartitionRow, [UInt64])? {
        func lengths(_ growing: [Int], _ row: PartitionRow) -> [UInt64]? {
            guard let last = growing.last, row.fits(bases) else { return nil }
            var lengths = bases
            if request.policy == .proportional { share(among: growing, row, &lengths) }
            lengths[last] = longest(last, parts, row, lengths)
            return lengths
        }
        let inFront = growing.filter { starts[$0] < Self.mebibyte }
        if !inFront.isEmpty, request.policy == .proportional || growing == inFront {
            var moved = row
            for index in request.policy == .proportional ? inFront : inFront.suffix(1) {
                moved.items[index].floor = Self.mebibyte
            }
            if let found = lengths(growing, moved), inFront.contains(where: { found[$0] > bases[$0] }) {
                return (moved, found)
            }
        }
        return lengths(growing.filter { !inFront.contains($0) }, row).map { (row, $0) }
    }

    /// The remark that the policy grows no partition, with a partition that an explicit size could grow.
    private func nothingGrows(_ parts: [Part], _ added: UInt64) -> LayoutRemark {
        guard let part = parts.last(where: { $0.canGrow && request.wishes[$0.partition.number] == nil }) else {
            return .nothingCanGrow(request.policy, freeByteCount: added)
        }
        return .nothingGrows(
            request.policy, freeByteCount: added, partition: part.partition.number, holding: name(part))
    }

    /// The largest possible length of a partition with the others unchanged: up to a boundary of the alignment.
    private func longest(_ index: Int, _ parts: [Part], _ row: PartitionRow, _ lengths: [UInt64]) -> UInt64 {
        guard let start = row.earliest(lengths)?[index], let end = row.end(of: index, lengths) else {
            return lengths[index]
        }
        let aligned = end.roundedDown(toMultipleOf: row.alignment)
        guard aligned > start else { return lengths[index] }
        return max(lengths[index], min(aligned - start, reach))
    }

    /// Gives each of some partitions a share of the largest increase that fits, in proportion to its size.
    private func share(among growing: [Int], _ row: PartitionRow, _ lengths: inout [UInt64]) {
        let bases = lengths
        let total = growing.reduce(into: UInt128(0)) { $0 += UInt128(bases[$1]) }
        func shared(_ boundaries: UInt64) -> [UInt64]? {
            var lengths = bases
            for index in growing {
                let share = UInt64(UInt128(boundaries) * UInt128(bases[index]) / total)
                let (bytes, overflow) = share.multipliedReportingOverflow(by: row.alignment)
                let (length, tooLong) = bases[index].addingReportingOverflow(bytes)
                guard !overflow, !tooLong else { return nil }
                lengths[index] = min(length, max(reach, bases[index]))
            }
            return row.fits(lengths) ? lengths : nil
        }
        lengths = mostThatFits(row.limit / row.alignment, shared) ?? bases
    }

    /// The value of `attempt` for the largest count up to `most` that has one; all smaller counts must have one too.
    private func mostThatFits(_ most: UInt64, _ attempt: (UInt64) -> [UInt64]?) -> [UInt64]? {
        guard var best = attempt(0) else { return nil }
        var low: UInt64 = 0
        var high = most
        while low < high {
            let middle = low + (high - low + 1) / 2
            if let lengths = attempt(middle) {
                best = lengths
                low = middle
            } else {
                high = middle - 1
            }
        }
        return best
    }

    /// Lengths for a target with too little room; `nil` if even the least lengths do not fit.
    func shrunk(_ parts: [Part], _ row: PartitionRow) -> [UInt64]? {
        guard var lengths = fitting(parts, row) else { return nil }
        // The rest gets all the space that the others leave, even if it could not shrink itself.
        if let rest = parts.firstIndex(where: \.isRest) { lengths[rest] = longest(rest, parts, row, lengths) }
        return lengths
    }

    private func fitting(_ parts: [Part], _ row: PartitionRow) -> [UInt64]? {
        let shrinkable = parts.indices.filter { parts[$0].least < parts[$0].base }
        let rest = shrinkable.filter { parts[$0].isRest }
        let last = shrinkable.last { parts[$0].growsByPolicy }.map { [$0] } ?? []
        let others = shrinkable.filter { !rest.contains($0) && !last.contains($0) }
        let groups = [
            rest, last, others.filter { !parts[$0].isSpecial }, others.filter { parts[$0].isSpecial },
        ]
        var lengths = parts.map(\.base)
        if row.fits(lengths) { return lengths }
        for (index, group) in groups.enumerated() where !group.isEmpty {
            var attempt = lengths
            for part in group { attempt[part] = parts[part].least }
            if row.fits(attempt) {
                attempt = eased(group, parts, row, attempt)
                // The last step may have freed a whole alignment unit for less: partitions of earlier steps get back
                // as much of it as possible.
                for part in groups[...index].reversed().joined() {
                    let most = parts[part].isRest ? .max : parts[part].base
                    attempt[part] = min(most, longest(part, parts, row, attempt))
                }
                return attempt
            }
            lengths = attempt
        }
        return nil
    }

    /// Gives unneeded room back to partitions that were shrunk to their least, in proportion to the room that
    /// each gave, up to rounding.
    private func eased(_ group: [Int], _ parts: [Part], _ row: PartitionRow, _ least: [UInt64]) -> [UInt64] {
        var lengths = least
        if group.count > 1 {
            let total = group.reduce(into: UInt128(0)) { $0 += UInt128(parts[$1].base - parts[$1].least) }
            lengths =
                mostThatFits(UInt64(clamping: total / UInt128(row.alignment))) { boundaries in
                    var lengths = least
                    for index in group {
                        let given = parts[index].base - parts[index].least
                        let share = UInt64(UInt128(boundaries) * UInt128(given) / total)
                        // No overflow: the share is at most the room that it gave.
                        lengths[index] = min(parts[index].base, least[index] + share * row.alignment)
                    }
                    return row.fits(lengths) ? lengths : nil
                } ?? least
        }
        return lengths
    }

    // MARK: Refusals

    /// Checks the requests themselves, whatever the target.
    func checkWishes() throws(LayoutError) {
        let numbers = Set(table.partitions.map(\.number))
        let listed = numbers.sorted().map(String.init).joined(separator: ", ")
        for number in request.wishes.keys.sorted() where !numbers.contains(number) {
            throw .request("the image has no partition \(number); it has \(listed)")
        }
        for partition in table.partitions where !partition.isVolume && request.wishes[partition.number] != nil {
            throw .request(
                "partition \(partition.number) is the extended partition: its size follows from the logical ones "
                    + "inside, so request sizes for those"
            )
        }
        let rest = request.wishes.filter { $0.value == .rest }.keys.sorted()
        if rest.count > 1 {
            throw .request("the partitions \(rest[0]) and \(rest[1]) cannot both take the rest")
        }
        let volumes = table.partitions.filter(\.isVolume)
        if !volumes.isEmpty, volumes.allSatisfy({ request.wishes[$0.number] == .drop }) {
            throw .request("every partition is dropped: nothing would be restored")
        }
        // Dropping a logical partition renumbers those behind it: files and loaders that use the
        // numbers would find another one.
        let logicals = volumes.filter { $0.mbr?.role == .logical }.map(\.number)
        let lastKept = logicals.filter { request.wishes[$0] != .drop }.max() ?? 0
        if let dropped = logicals.first(where: { request.wishes[$0] == .drop && $0 < lastKept }) {
            throw .request(
                "partition \(dropped) cannot be dropped: the logical partitions behind it, up to \(lastKept), would "
                    + "get other numbers, which the system may refer to; drop those too, or keep this one")
        }
    }

    /// Why the target is too small, and the least sufficient size.
    func shortage(_ parts: [Part]) -> LayoutError {
        let wished = parts.indices.filter { index in
            if case .size = request.wishes[parts[index].partition.number] { true } else { false }
        }
        guard let least = leastByteCount(parts) else {
            return .table(
                "the partitions do not fit a target of any size: an MBR with sectors of \(unit) bytes reaches "
                    + ByteText.rounded(reach))
        }
        var free = parts
        for index in free.indices where !free[index].isHead { free[index].least = free[index].leastOfContent }
        let shrinking = leastByteCount(free)
        var shortage = LayoutError.Shortage(
            leastByteCount: least, targetByteCount: target.byteCount,
            leastWithShrinking: shrinking.flatMap { $0 < least ? $0 : nil })
        for partition in table.partitions {
            guard let part = parts.first(where: { $0.partition.number == partition.number }), !part.isHead else {
                continue
            }
            shortage.parts.append(
                .init(
                    number: partition.number, name: name(part), byteCount: partition.range.byteCount,
                    leastByteCount: part.least == part.captured ? partition.range.byteCount : part.least,
                    reason: part.requestReason ?? abilities[partition.number]?.reason))
        }
        // A request that could be met with a smaller size: the last one that alone is responsible.
        for index in wished.reversed() {
            var relaxed = parts
            let ability = abilities[parts[index].partition.number]
            let asked = (ability?.leastByteCount ?? 0).roundedUp(toMultipleOf: unit) ?? .max
            relaxed[index].least = ability?.canShrink == true ? max(asked, unit) : max(parts[index].captured, asked)
            // With the others unchanged or at their least: only in the latter case do partitions leave the first MiB.
            let most = [false, true].compactMap { mayShrink -> UInt64? in
                var lengths = relaxed.map { mayShrink ? $0.least : $0.base }
                // With its own length it may stay in the first MiB; another length makes it leave.
                var own = relaxed
                own[index].base = parts[index].captured
                own[index].least = parts[index].captured
                lengths[index] = parts[index].captured
                let ownMost =
                    parts[index].captured >= relaxed[index].least && makeRow(own, mayShrink: mayShrink).fits(lengths)
                    ? parts[index].captured : nil
                let row = makeRow(relaxed, mayShrink: mayShrink)
                lengths[index] = relaxed[index].least
                guard row.fits(lengths), let start = row.earliest(lengths)?[index],
                    let end = row.end(of: index, lengths)
                else { return ownMost }
                return max((end - start).roundedDown(toMultipleOf: unit), ownMost ?? 0)
            }.max()
            guard let most else { continue }
            return .requestTooLarge(
                number: parts[index].partition.number, mostByteCount: most, shortage: shortage)
        }
        return .tooSmall(shortage)
    }

    /// The least sufficient size of a target; `nil` if the table cannot address it.
    private func leastByteCount(_ parts: [Part]) -> UInt64? {
        let ends = [
            makeRow(parts, mayShrink: false).leastEnd(parts.map(\.base)),
            makeRow(parts, mayShrink: true).leastEnd(parts.map(\.least)),
        ].compactMap { $0 }.filter { $0 <= reach }
        let sizes = ends.compactMap { end -> UInt64? in
            let (size, overflow) = end.addingReportingOverflow(backupByteCount)
            return overflow ? nil : size
        }
        return (sizes + [capturedByteCount(parts)].compactMap { $0 }).min()
    }
}
