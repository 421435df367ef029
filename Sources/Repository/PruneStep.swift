// SPDX-License-Identifier: GPL-3.0-or-later

/// A step that a prune has completed.
package enum PruneStep: String, Sendable, CaseIterable {
    /// Packs that no index listed were indexed.
    case adopted
    /// The contents that snapshots need are known.
    case referenced
    /// The needed contents of mostly unneeded packs were copied.
    case repacked
    /// Packs are marked.
    case marked
    /// The marks are complete.
    case batched
    /// Indexes without the removed packs exist, beside the old ones.
    case indexed
    /// Only the new indexes exist.
    case unindexed
    /// The packs are removed.
    case removed
    /// Their marks are removed.
    case unmarked
}
