// SPDX-License-Identifier: GPL-3.0-or-later

/// What a repair found and did.
package struct RepairReport: Sendable {
    /// What was wrong before.
    package var found: VerifyReport
    /// Contents that were taken out of the indexes.
    package var quarantinedCount = 0
    /// The packs that no whole index knew, and that were indexed again.
    package var adopted = PruneReport.Amount()
    /// What a person should know.
    package var notes: [String] = []
}
