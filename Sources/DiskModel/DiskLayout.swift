// SPDX-License-Identifier: GPL-3.0-or-later

/// Where every partition goes on a target.
public struct DiskLayout: Codable, Equatable, Sendable {
    /// One partition's way.
    public struct Placement: Codable, Equatable, Sendable {
        /// Its number.
        public var number: Int
        /// Where it was, in bytes.
        public var from: ByteRange
        /// Where it goes, in bytes.
        public var to: ByteRange

        /// Describes a partition's way.
        public init(number: Int, from: ByteRange, to: ByteRange) {
            self.number = number
            self.from = from
            self.to = to
        }

        /// Whether it takes more room than it had.
        public var isGrown: Bool { to.byteCount > from.byteCount }
        /// Whether it takes less room than it had.
        public var isShrunk: Bool { to.byteCount < from.byteCount }
        /// Whether it starts elsewhere.
        public var isMoved: Bool { to.lowerBound != from.lowerBound }
    }

    /// The partitions in the order of the table, an extended partition among them; what is dropped is not in it.
    public var placements: [Placement]
    /// What a person should know.
    public var remarks: [String]

    /// Describes a layout.
    public init(placements: [Placement], remarks: [String] = []) {
        self.placements = placements
        self.remarks = remarks
    }
}

/// What a partition's content allows, as far as sizes go. A partition of which nothing is known keeps its length.
public struct PartitionAbility: Codable, Equatable, Sendable {
    /// The least length in bytes of its partition on the target. More than the partition has now where the target
    /// asks for that (an EFI system partition with sectors of 4096 bytes): then it is placed larger.
    public var leastByteCount: UInt64
    /// Whether the content follows where its partition gets larger.
    public var canGrow: Bool
    /// Whether the content can be made to fit a partition of `leastByteCount`; otherwise that keeps its length.
    public var canShrink: Bool
    /// Why it cannot shrink, or why `leastByteCount` is what it is: half a sentence, for a person.
    public var reason: String?

    /// Describes what a content allows.
    public init(leastByteCount: UInt64, canGrow: Bool = false, canShrink: Bool = false, reason: String? = nil) {
        self.leastByteCount = leastByteCount
        self.canGrow = canGrow
        self.canShrink = canShrink
        self.reason = reason
    }
}
