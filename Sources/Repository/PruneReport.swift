// SPDX-License-Identifier: GPL-3.0-or-later

/// The result of a prune or of its dry run.
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
    /// The number of snapshots read.
    package var snapshotCount = 0
    /// The existing packs.
    package var present = Amount()
    /// The bytes in them that snapshots need.
    package var neededByteCount: UInt64 = 0
    /// The removed packs: the space freed.
    package var removed = Amount()
    /// Packs marked for removal by a later prune: the space it will free.
    package var waiting = Amount()
    /// The packs of `waiting` that this prune marked.
    package var newlyMarked = Amount()
    /// Marked packs that are needed again.
    package var unmarked = Amount()
    /// Packs whose needed contents were copied to new ones because a large share is unneeded. Included in `waiting`.
    package var repacked = Amount()
    /// The bytes that were copied from them.
    package var copiedByteCount: UInt64 = 0
    /// Packs that no index listed: indexed again.
    package var adopted = Amount()
    /// Removed files of killed processes in `tmp/`, in bytes.
    package var temporaryByteCount: UInt64 = 0
    /// Needed contents that no pack has: `verify` lists them.
    package var missingCount = 0
    /// Remarks for the user.
    package var notes: [String] = []
}
