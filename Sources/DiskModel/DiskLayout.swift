// SPDX-License-Identifier: GPL-3.0-or-later

/// Where every partition goes on a target.
package struct DiskLayout: Equatable, Sendable {
    /// One partition's way.
    package struct Placement: Codable, Equatable, Sendable {
        /// Its number.
        package var number: Int
        /// Where it was, in bytes.
        package var from: ByteRange
        /// Where it goes, in bytes.
        package var to: ByteRange

        /// Describes a partition's way.
        package init(number: Int, from: ByteRange, to: ByteRange) {
            self.number = number
            self.from = from
            self.to = to
        }

        /// Whether it takes more room than it had.
        package var isGrown: Bool { to.byteCount > from.byteCount }
        /// Whether it takes less room than it had.
        package var isShrunk: Bool { to.byteCount < from.byteCount }
        /// Whether it starts elsewhere.
        package var isMoved: Bool { to.lowerBound != from.lowerBound }
    }

    /// The partitions in the order of the table, an extended partition among them; what is dropped is not in it.
    package var placements: [Placement]
    /// What a person should know.
    package var remarks: [LayoutRemark]

    /// Describes a layout.
    package init(placements: [Placement], remarks: [LayoutRemark] = []) {
        self.placements = placements
        self.remarks = remarks
    }
}

/// What a partition's content allows, as far as sizes go. A partition of which nothing is known keeps its length.
package struct PartitionAbility: Codable, Equatable, Sendable {
    /// The least length in bytes of its partition on the target. More than the partition has now where the target
    /// asks for that (an EFI system partition with sectors of 4096 bytes): then it is placed larger.
    package var leastByteCount: UInt64
    /// Whether the content follows where its partition gets larger.
    package var canGrow: Bool
    /// Whether the content can be made to fit a partition of `leastByteCount`; otherwise that keeps its length.
    package var canShrink: Bool
    /// Why it cannot shrink, or why `leastByteCount` is what it is: half a sentence, for a person.
    package var reason: String?

    /// Describes what a content allows.
    package init(leastByteCount: UInt64, canGrow: Bool = false, canShrink: Bool = false, reason: String? = nil) {
        self.leastByteCount = leastByteCount
        self.canGrow = canGrow
        self.canShrink = canShrink
        self.reason = reason
    }
}
