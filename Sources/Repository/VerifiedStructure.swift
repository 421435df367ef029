// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs

/// What the first pass of verify leaves for those behind it.
struct VerifiedStructure {
    /// The indexes that are whole.
    let indexes: IndexSet
    /// The packs that an index knows.
    let indexedPacks: Set<StoreName>
    /// The packs that are there and can be opened, with their lengths.
    let packs: [StoreName: UInt64]
    /// What the snapshots need.
    let references: PruneReferences
    /// The snapshots that could be read.
    let snapshots: [ContentHash]
    /// The pieces of lists and maps that could not be followed: what they concern was said then.
    let unreadablePieces: Set<BlobKey>
}
