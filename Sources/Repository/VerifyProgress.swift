// SPDX-License-Identifier: GPL-3.0-or-later

/// The progress of a verification.
package struct VerifyProgress: Equatable, Sendable {
    /// The phase.
    package enum Phase: String, Sendable {
        /// Reads all indexes.
        case indexes
        /// Reads the heads, tables and ends of all packs.
        case packs
        /// Follows all snapshots.
        case snapshots
        /// Reads contents.
        case contents
    }
    /// The phase.
    package var phase: Phase
    /// The amount done: files, or bytes for contents.
    package var done: UInt64
    /// The total amount.
    package var total: UInt64
}
