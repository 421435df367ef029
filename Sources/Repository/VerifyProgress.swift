// SPDX-License-Identifier: GPL-3.0-or-later

/// How far a verification is.
package struct VerifyProgress: Equatable, Sendable {
    /// What it is doing.
    package enum Phase: String, Sendable {
        /// Reads all indexes.
        case indexes
        /// Reads what all packs say of themselves.
        case packs
        /// Follows all snapshots.
        case snapshots
        /// Reads contents.
        case contents
    }
    /// What it is doing.
    package var phase: Phase
    /// How much of that is done: files; bytes for contents.
    package var done: UInt64
    /// How much there is.
    package var total: UInt64
}
