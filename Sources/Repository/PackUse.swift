// SPDX-License-Identifier: GPL-3.0-or-later

/// A pack as a prune sees it: its file, and how much of it snapshots need.
struct PackUse: Equatable {
    var name: StoreName
    var byteCount: UInt64
    var modified: Int64
    /// The stored bytes of contents that snapshots need, counted at their chosen places.
    var neededByteCount: UInt64 = 0
    /// The stored bytes of all contents that indexes list in it.
    var knownByteCount: UInt64 = 0
    /// Whether any index lists it.
    var isIndexed = false
    /// Whether it has a needed content that was chosen in another pack.
    var hasCopies = false
    /// Whether this run copied its needed contents.
    var isRepacked = false

    /// The share of its indexed bytes that no snapshot needs.
    var unneededShare: Double { 1 - Double(neededByteCount) / Double(max(1, knownByteCount)) }
}
