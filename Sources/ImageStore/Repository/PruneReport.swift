// SPDX-License-Identifier: GPL-3.0-or-later

/// What prune did, or would do.
public struct PruneReport: Equatable, Sendable {
    /// A number of packs and their length in bytes.
    public struct Amount: Equatable, Sendable {
        /// How many.
        public var packCount = 0
        /// Their length in bytes.
        public var byteCount: UInt64 = 0

        mutating func add(_ bytes: UInt64) {
            packCount += 1
            byteCount += bytes
        }
    }
    /// Whether nothing was changed.
    public var isDryRun = false
    /// The snapshots that were looked at.
    public var snapshotCount = 0
    /// The packs that were there.
    public var present = Amount()
    /// The bytes in them that snapshots need.
    public var neededByteCount: UInt64 = 0
    /// Removed: what came free.
    public var removed = Amount()
    /// Marked, and removed by a later prune: what will come free.
    public var waiting = Amount()
    /// Of those, marked by this prune.
    public var newlyMarked = Amount()
    /// Marked before, and needed again.
    public var unmarked = Amount()
    /// Packs that were mostly unneeded: what was needed of them was copied to new ones. They are among `waiting`.
    public var repacked = Amount()
    /// The bytes that were copied from them.
    public var copiedByteCount: UInt64 = 0
    /// Packs that no index knew: indexed again.
    public var adopted = Amount()
    /// Left by killed processes in `tmp/`, in bytes: removed.
    public var temporaryByteCount: UInt64 = 0
    /// Contents that snapshots need and no pack has: `verify` says which.
    public var missingCount = 0
    /// What a person should know.
    public var notes: [String] = []
}
