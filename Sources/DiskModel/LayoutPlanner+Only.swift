// SPDX-License-Identifier: GPL-3.0-or-later

/// How one partition goes into an existing one.
package struct OnlyLayout: Equatable, Sendable {
    /// Its way: from its place in the image to the whole of the existing partition.
    package var placement: DiskLayout.Placement
    /// Whether its filesystem grows to the end of the existing partition.
    package var growsToFill: Bool
    /// Whether its filesystem must shrink to fit.
    package var shrinksToFit: Bool
    package var remarks: [LayoutRemark]
}

extension LayoutPlanner {
    /// Restores one partition of an image onto an existing one of the target; the rest of the target stays unchanged.
    /// - Parameters:
    ///   - number: its number in the captured table.
    ///   - table: the captured table.
    ///   - ability: the sizes that its content allows; `nil` if unknown: then it needs at least its captured length.
    ///   - existing: the table on the target.
    ///   - existingNumber: the partition there; `nil` for the same number.
    ///   - policy: `keep` leaves the filesystem's size as it is.
    ///   - mayShrink: whether a filesystem may be made smaller.
    /// - Throws: `LayoutError` if either table lacks the partition, or the existing one is too small.
    package static func planOnly(
        _ number: Int, of table: PartitionTable, ability: PartitionAbility?, onto existing: PartitionTable,
        existingNumber: Int? = nil, policy: LayoutPolicy = .grow, mayShrink: Bool = false
    ) throws(LayoutError) -> OnlyLayout {
        let from = try volume(number, of: table, "the image")
        let to = try volume(existingNumber ?? number, of: existing, "the target")
        let length = from.range.byteCount
        let canShrink = mayShrink && ability?.canShrink == true
        let least = canShrink ? ability?.leastByteCount ?? length : max(length, ability?.leastByteCount ?? 0)
        guard to.range.byteCount >= least else {
            let reason = ability?.reason.map { ": \($0)" } ?? ""
            throw .request(
                "partition \(to.number) of the target has \(to.range.byteCount) bytes "
                    + "(\(ByteText.rounded(to.range.byteCount))), and partition \(number) of the image needs \(least) "
                    + "(\(ByteText.rounded(least)))\(reason)")
        }
        let isLarger = to.range.byteCount > length
        let grows = isLarger && policy != .keep && ability?.canGrow == true
        var only = OnlyLayout(
            placement: .init(number: to.number, from: from.range, to: to.range), growsToFill: grows,
            shrinksToFit: to.range.byteCount < length, remarks: [])
        if isLarger, !grows {
            only.remarks.append(.existingIsLarger(partition: to.number, byteCount: to.range.byteCount - length))
        }
        if from.typeName != to.typeName {
            only.remarks.append(.typeStays(partition: to.number, type: to.typeName, captured: from.typeName))
        }
        return only
    }

    private static func volume(
        _ number: Int, of table: PartitionTable, _ place: String
    ) throws(LayoutError) -> Partition {
        guard let partition = table.partitions.first(where: { $0.number == number }) else {
            throw .request("\(place) has no partition \(number)")
        }
        guard partition.isVolume else {
            throw .request("partition \(number) of \(place) is an extended partition: it only contains others")
        }
        return partition
    }
}
