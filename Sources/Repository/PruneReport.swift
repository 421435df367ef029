// SPDX-License-Identifier: GPL-3.0-or-later

/// What prune did, or would do.
package struct PruneReport: Equatable, Sendable {
    /// A number of packs and their length in bytes.
    package struct Amount: Equatable, Sendable {
        /// How many.
        package var packCount = 0
        /// Their length in bytes.
        package var byteCount: UInt64 = 0

        mutating func add(_ bytes: UInt64) {
            packCount += 1
            byteCount += bytes
        }
    }
    /// Whether nothing was changed.
    package var isDryRun = false
    /// The snapshots that were looked at.
    package var snapshotCount = 0
    /// The packs that were there.
    package var present = Amount()
    /// The bytes in them that snapshots need.
    package var neededByteCount: UInt64 = 0
    /// Removed: what came free.
    package var removed = Amount()
    /// Marked, and removed by a later prune: what will come free.
    package var waiting = Amount()
    /// Of those, marked by this prune.
    package var newlyMarked = Amount()
    /// Marked before, and needed again.
    package var unmarked = Amount()
    /// Packs that were mostly unneeded: what was needed of them was copied to new ones. They are among `waiting`.
    package var repacked = Amount()
    /// The bytes that were copied from them.
    package var copiedByteCount: UInt64 = 0
    /// Packs that no index knew: indexed again.
    package var adopted = Amount()
    /// Left by killed processes in `tmp/`, in bytes: removed.
    package var temporaryByteCount: UInt64 = 0
    /// Contents that snapshots need and no pack has: `verify` says which.
    package var missingCount = 0
    /// What a person should know.
    package var notes: [String] = []
}
