// SPDX-License-Identifier: GPL-3.0-or-later

/// A pack as a prune sees it: its file, and how much of it snapshots need.
struct PackUse: Equatable {
    var name: StoreName
    var byteCount: UInt64
    var modified: Int64
    /// The stored bytes of contents that snapshots need, by the places that were chosen.
    var neededByteCount: UInt64 = 0
    /// The stored bytes of all contents that indexes know in it.
    var knownByteCount: UInt64 = 0
    /// Whether any index knows it.
    var isIndexed = false
    /// Whether it has a content that is needed, but chosen in another pack.
    var hasCopies = false
    /// Whether what was needed of it was copied by this run.
    var isRepacked = false

    /// The share of its known bytes that no snapshot needs.
    var unneededShare: Double { 1 - Double(neededByteCount) / Double(max(1, knownByteCount)) }
}
