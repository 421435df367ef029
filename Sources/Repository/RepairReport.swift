// SPDX-License-Identifier: GPL-3.0-or-later

/// The result of a repair.
package struct RepairReport: Sendable {
    /// The problems found before the repair.
    package var found: VerifyReport
    /// The number of contents removed from the indexes.
    package var quarantinedCount = 0
    /// The packs that no intact index listed and that were indexed again.
    package var adopted = PruneReport.Amount()
    /// Remarks for the user.
    package var notes: [String] = []
}
