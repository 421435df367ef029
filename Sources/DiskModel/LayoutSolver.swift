// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The state of one layout computation.
struct LayoutSolver {
    static let mebibyte: UInt64 = 1 << 20

    let table: PartitionTable
    let source: DiskGeometry
    let filesystems: [Int: FilesystemInfo]
    let abilities: [Int: PartitionAbility]
    let target: DiskGeometry
    let request: LayoutRequest
    /// The target's sector in bytes.
    let unit: UInt64
    /// The end of the last whole sector of the target.
    let targetEnd: UInt64

    init(
        table: PartitionTable, source: DiskGeometry, filesystems: [Int: FilesystemInfo],
        abilities: [Int: PartitionAbility], target: DiskGeometry, request: LayoutRequest
    ) {
        self.table = table
        self.source = source
        self.filesystems = filesystems
        self.abilities = abilities
        self.target = target
        self.request = request
        unit = UInt64(max(512, target.logicalSectorSize))
        targetEnd = target.byteCount.roundedDown(toMultipleOf: unit)
    }

    /// A placed partition, or the head of an extended one.
    struct Part {
        var partition: Partition
        /// Whether it is the first sector of an extended partition: the first EBR.
        var isHead = false
        /// Its length as captured, rounded up to the target's sector.
        var captured: UInt64
        /// Its length if there is enough space.
        var base: UInt64
        /// Its least possible length.
        var least: UInt64
        /// The length that it could shrink to under another policy.
        var leastOfContent: UInt64
        /// Whether its content can grow with it.
        var canGrow = false
        var isSpecial = false
        /// Whether it takes all remaining room.
        var isRest = false
        /// Whether the policy may make it larger.
        var growsByPolicy = false
        /// The reason for its length, if a request sets it.
        var requestReason: String?
    }

    // MARK: The target

    var isSameSector: Bool { source.logicalSectorSize == target.logicalSectorSize }

    /// The end of the area in which partitions can be placed; `UInt64.max` for a GPT. An MBR counts starts
    /// and lengths in sectors with 32 bits; a partition that starts inside but ends behind that limit can
    /// only be restored unchanged.
    var reach: UInt64 { table.kind == .mbr ? UInt64(UInt32.max) * unit : .max }

    /// The room for a GPT's backup at the end.
    var backupByteCount: UInt64 {
        guard table.kind == .gpt else { return 0 }
        let own = table.entryByteCount(inSectorsOf: unit) + unit
        guard isSameSector else { return own }
        // The source may be a file that does not end on a whole sector.
        var whole = source
        whole.byteCount = source.byteCount.roundedDown(toMultipleOf: unit)
        return table.backupByteCount(on: whole).roundedUp(toMultipleOf: unit) ?? own
    }

    /// The first usable byte: behind block 0 or the primary GPT.
    var firstUsable: UInt64 {
        guard table.kind == .gpt else { return unit }
        if isSameSector { return table.usable.lowerBound }
        return table.entryByteCount(inSectorsOf: unit) + 2 * unit
    }

    /// The upper limit for the end of the last partition.
    var limit: UInt64 {
        guard targetEnd > backupByteCount else { return 0 }
        return min(targetEnd - backupByteCount, reach.roundedDown(toMultipleOf: unit))
    }

    // MARK: The way

    func solve() throws(LayoutError) -> DiskLayout {
        try checkWishes()
        let parts = try makeParts()
        let capturedLeast = capturedByteCount(parts)
        let isCapturedFitting = capturedLeast.map { $0 <= targetEnd } ?? false
        if let reason = irregularity {
            guard request.wishes.isEmpty || request.wishes.values.allSatisfy({ $0 == .keep }) else {
                throw .table("\(reason); such a table can only be restored unchanged, without requests for partitions")
            }
            guard isCapturedFitting else {
                guard let capturedLeast else {
                    throw .table(
                        "\(reason); such a table can only be restored unchanged, which this target does not allow")
                }
                throw .tooSmall(.init(leastByteCount: capturedLeast, targetByteCount: target.byteCount))
            }
            return asCaptured(.irregularTable(reason: reason))
        }
        let bases = parts.map(\.base)
        let row = makeRow(parts, mayShrink: false)
        if row.fits(bases), let starts = row.place(bases) {
            let isUnchanged = zip(starts, parts).allSatisfy { $0 == $1.partition.range.lowerBound }
            // An extended partition laid out in an unusual way (its EBRs elsewhere) stays as it is.
            guard isUnchanged || !isCapturedFitting else { return asCaptured(.unusualTable) }
            // Nothing moves for nothing, but for one that is to have all there is.
            return grown(parts, parts.contains(where: \.isRest) ? row : row.settled(at: starts), starts, bases)
        }
        if isCapturedFitting { return asCaptured(.unusualTable) }
        let shrinkingRow = makeRow(parts, mayShrink: true)
        guard let lengths = shrunk(parts, shrinkingRow), let starts = shrinkingRow.place(lengths) else {
            throw shortage(parts)
        }
        return layout(parts, shrinkingRow, lengths, starts, remarks: [])
    }

    /// The layout with every partition at its captured range.
    private func asCaptured(_ remark: LayoutRemark) -> DiskLayout {
        DiskLayout(
            placements: table.partitions.map { .init(number: $0.number, from: $0.range, to: $0.range) },
            remarks: [remark])
    }

    /// The least size of a target on which every partition can stay at its exact place; `nil` without one.
    func capturedByteCount(_ parts: [Part]) -> UInt64? {
        guard !request.wishes.values.contains(where: { $0 == .drop || $0 == .rest }),
            parts.allSatisfy({ $0.isHead || $0.base == $0.partition.range.byteCount })
        else { return nil }
        var end = firstUsable
        for partition in table.partitions {
            let range = partition.range
            guard range.lowerBound % unit == 0, range.upperBound % unit == 0 else { return nil }
            if !isSameSector, range.lowerBound < firstUsable || range.upperBound > reach { return nil }
            end = max(end, range.upperBound)
        }
        let (least, overflow) = end.addingReportingOverflow(backupByteCount)
        return overflow ? nil : least
    }

    // MARK: What is placed

    /// Why a table can only be restored unchanged: its partitions overlap in a way that no order describes.
    var irregularity: String? {
        let volumes = table.partitions.filter(\.isVolume).sorted { $0.range.lowerBound < $1.range.lowerBound }
        let extended = table.partitions.filter { !$0.isVolume }.sorted { $0.range.lowerBound < $1.range.lowerBound }
        guard table.partitions.allSatisfy({ !$0.range.isEmpty }) else {
            return "a partition of the table has no length"
        }
        for (first, second) in zip(volumes, volumes.dropFirst()) where first.range.upperBound > second.range.lowerBound
        {
            return "the partitions \(first.number) and \(second.number) overlap"
        }
        for (first, second) in zip(extended, extended.dropFirst())
        where first.range.upperBound > second.range.lowerBound {
            return "the partitions \(first.number) and \(second.number) overlap"
        }
        let sector = UInt64(max(512, source.logicalSectorSize))
        for volume in volumes {
            let around = extended.first { $0.range.overlaps(volume.range) }
            guard volume.mbr?.role == .logical else {
                guard let around else { continue }
                return "partition \(volume.number) lies in the extended partition \(around.number)"
            }
            guard let around, around.range.covers(volume.range),
                volume.range.lowerBound - around.range.lowerBound >= sector
            else { return "the logical partition \(volume.number) lies outside of the extended one" }
        }
        return nil
    }

    /// The partitions to place, in ascending order.
    private func makeParts() throws(LayoutError) -> [Part] {
        let kept = table.partitions.filter { request.wishes[$0.number] != .drop }
        let order = kept.sorted { ($0.range.lowerBound, $0.number) < ($1.range.lowerBound, $1.number) }
        var parts: [Part] = []
        for partition in order {
            if partition.isVolume || !holdsLogical(partition, of: table.partitions) {
                parts.append(try makePart(partition))
            } else if holdsLogical(partition, of: kept) {
                parts.append(
                    Part(
                        partition: partition, isHead: true, captured: unit, base: unit, least: unit,
                        leastOfContent: unit))
            }
        }
        return parts
    }

    private func holdsLogical(_ extended: Partition, of partitions: [Partition]) -> Bool {
        partitions.contains { $0.mbr?.role == .logical && extended.range.covers($0.range) }
    }

    private func makePart(_ partition: Partition) throws(LayoutError) -> Part {
        let ability = abilities[partition.number]
        let filesystem = filesystems[partition.number]
        guard let captured = partition.range.byteCount.roundedUp(toMultipleOf: unit),
            let asked = (ability?.leastByteCount ?? 0).roundedUp(toMultipleOf: unit)
        else { throw .table("partition \(partition.number) is longer than any disk") }
        let leastOfContent = ability?.canShrink == true ? max(asked, unit) : max(captured, asked)
        let isSpecial = LayoutPlanner.isSpecial(partition, filesystem)
        var part = Part(
            partition: partition, captured: captured, base: max(captured, leastOfContent), least: leastOfContent,
            leastOfContent: leastOfContent, canGrow: ability?.canGrow ?? false, isSpecial: isSpecial)
        switch request.wishes[partition.number] {
        case .size(let wished):
            guard let length = wished.roundedUp(toMultipleOf: unit), length <= reach else {
                throw .request(
                    "partition \(partition.number) cannot have \(wished) bytes: that exceeds the table's address range")
            }
            try checkLeast(part, length)
            (part.base, part.least, part.leastOfContent) = (length, length, length)
            part.requestReason = "this size was requested"
        case .keep:
            try checkLeast(part, captured)
            (part.base, part.least, part.leastOfContent) = (captured, captured, captured)
            part.requestReason = "its size was requested to stay"
        case .rest: part.isRest = true
        case .drop, nil:
            part.growsByPolicy = part.canGrow && !isSpecial
            guard request.policy == .keep else { break }
            part.growsByPolicy = false
            if part.least < part.base { part.requestReason = "the layout keeps sizes as captured" }
            part.least = part.base
        }
        return part
    }

    private func checkLeast(_ part: Part, _ length: UInt64) throws(LayoutError) {
        guard length < part.leastOfContent else { return }
        let listed = LayoutError.Part(
            number: part.partition.number, name: name(part), byteCount: part.partition.range.byteCount,
            leastByteCount: part.leastOfContent, reason: abilities[part.partition.number]?.reason)
        throw .request(
            "\(listed.sentence) (\(ByteText.rounded(length)) were asked for; at least \(listed.leastByteCount) bytes)")
    }

    func name(_ part: Part) -> String {
        filesystems[part.partition.number]?.kindName ?? part.partition.typeName
    }

    /// The row for captured or requested lengths, or for a target on which partitions must shrink.
    func makeRow(_ parts: [Part], mayShrink: Bool) -> PartitionRow {
        let firstStart = table.partitions.map(\.range.lowerBound).min() ?? 0
        var items: [PartitionRow.Item] = []
        var isBehindHead = false
        let firstLogical = parts.filter { $0.partition.mbr?.role == .logical }.map(\.partition.number).min()
        for part in parts {
            let start = part.partition.range.lowerBound
            var item = PartitionRow.Item(home: start % unit == 0 ? start : nil, wanted: start)
            let isResized = part.base != part.captured || part.isRest || (mayShrink && part.least < part.base)
            if !part.isHead, isResized, start < Self.mebibyte { item.floor = Self.mebibyte }
            // The chain begins with the lowest number, and the head holds its EBR.
            if part.partition.mbr?.role == .logical, !(isBehindHead && part.partition.number == firstLogical) {
                item.lead = unit
            }
            isBehindHead = part.isHead
            items.append(item)
        }
        return PartitionRow(
            items: items, front: max(firstUsable, firstStart), limit: limit,
            alignment: target.partitionAlignment, lastStart: table.kind == .mbr ? UInt64(UInt32.max) * unit : .max)
    }

    // MARK: The result

    /// The layout for the computed lengths and starts.
    func layout(
        _ parts: [Part], _ row: PartitionRow, _ lengths: [UInt64], _ starts: [UInt64], remarks: [LayoutRemark]
    ) -> DiskLayout {
        var places: [Int: ByteRange] = [:]
        // If nothing changes, an extended partition beyond the MBR's address range is restored unchanged, too.
        let isUnchanged = parts.indices.allSatisfy { index in
            let (part, start) = (parts[index], starts[index])
            let range = part.partition.range
            return part.isHead
                ? start == range.lowerBound && range.upperBound <= targetEnd : start..<start + lengths[index] == range
        }
        let farthest = isUnchanged ? targetEnd : row.limit
        for (index, part) in parts.enumerated() {
            var end = starts[index] + lengths[index]
            if part.isHead {
                var last = index
                while last + 1 < parts.count, parts[last + 1].partition.mbr?.role == .logical { last += 1 }
                end = starts[last] + lengths[last]
                let range = part.partition.range
                if range.lowerBound == starts[index] {
                    let most = last + 1 < parts.count ? starts[last + 1] : farthest
                    end = max(end, min(range.upperBound, most).roundedDown(toMultipleOf: unit))
                }
            }
            places[part.partition.number] = starts[index]..<end
        }
        var layout = DiskLayout(placements: [], remarks: remarks)
        for partition in table.partitions {
            guard let place = places[partition.number] else { continue }
            layout.placements.append(.init(number: partition.number, from: partition.range, to: place))
        }
        for (part, length) in zip(parts, lengths) where length > part.captured && !part.isHead && !part.canGrow {
            guard length > part.leastOfContent || part.requestReason != nil else { continue }
            layout.remarks.append(.contentKeepsSize(partition: part.partition.number, holding: name(part)))
        }
        return layout
    }
}
