// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs

/// The results of the first pass of verify for the later ones.
struct VerifiedStructure {
    /// The intact indexes.
    let indexes: IndexSet
    /// The packs listed by an index.
    let indexedPacks: Set<StoreName>
    /// The packs that exist and can be opened, with their lengths.
    let packs: [StoreName: UInt64]
    /// The contents that the snapshots need.
    let references: PruneReferences
    /// The readable snapshots.
    let snapshots: [ContentHash]
    /// The list and map pieces that could not be read: the pass has already reported what they affect.
    let unreadablePieces: Set<BlobKey>
}
