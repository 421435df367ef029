// SPDX-License-Identifier: GPL-3.0-or-later

/// The ranges of all partitions on a target.
package struct DiskLayout: Equatable, Sendable {
    /// The range of one partition on the source and on the target.
    package struct Placement: Codable, Equatable, Sendable {
        /// The partition's number.
        package var number: Int
        /// Its range on the source, in bytes.
        package var from: ByteRange
        /// Its range on the target, in bytes.
        package var to: ByteRange

        package init(number: Int, from: ByteRange, to: ByteRange) {
            self.number = number
            self.from = from
            self.to = to
        }

        /// Whether it gets larger.
        package var isGrown: Bool { to.byteCount > from.byteCount }
        /// Whether it gets smaller.
        package var isShrunk: Bool { to.byteCount < from.byteCount }
        /// Whether its start changes.
        package var isMoved: Bool { to.lowerBound != from.lowerBound }
    }

    /// The partitions in the order of the table, including an extended partition, without dropped ones.
    package var placements: [Placement]
    package var remarks: [LayoutRemark]

    package init(placements: [Placement], remarks: [LayoutRemark] = []) {
        self.placements = placements
        self.remarks = remarks
    }
}

/// The sizes that a partition's content allows. A partition without a known content keeps its length.
package struct PartitionAbility: Codable, Equatable, Sendable {
    /// The least length in bytes of its partition on the target. It exceeds the captured length if the target requires
    /// that (an EFI system partition with sectors of 4096 bytes); the partition then grows.
    package var leastByteCount: UInt64
    /// Whether the content can grow with its partition.
    package var canGrow: Bool
    /// Whether the content can shrink to a partition of `leastByteCount`; otherwise the partition keeps its length.
    package var canShrink: Bool
    /// Why it cannot shrink, or the reason for `leastByteCount`: half a sentence for messages.
    package var reason: String?

    package init(leastByteCount: UInt64, canGrow: Bool = false, canShrink: Bool = false, reason: String? = nil) {
        self.leastByteCount = leastByteCount
        self.canGrow = canGrow
        self.canShrink = canShrink
        self.reason = reason
    }
}
