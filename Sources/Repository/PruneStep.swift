// SPDX-License-Identifier: GPL-3.0-or-later

/// How far a prune is.
package enum PruneStep: String, Sendable, CaseIterable {
    /// Packs that no index knew were indexed.
    case adopted
    /// It is known what snapshots need.
    case referenced
    /// What mostly unneeded packs still have was copied.
    case repacked
    /// Packs are marked.
    case marked
    /// The marks are complete.
    case batched
    /// Indexes without the packs that go are there, beside those with them.
    case indexed
    /// Only those without them are there.
    case unindexed
    /// The packs are gone.
    case removed
    /// Their marks too.
    case unmarked
}
