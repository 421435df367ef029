// SPDX-License-Identifier: GPL-3.0-or-later

/// The result of boot repair.
package struct BootRepairOutcome: Codable, Equatable, Sendable {
    /// The changes, a sentence each.
    package var changed: [String]
    /// Warnings for the user, a sentence each.
    package var warnings: [String]
    /// The remaining work and how to do it; `nil` if there is none.
    package var pending: String?

    /// Describes an outcome.
    package init(changed: [String] = [], warnings: [String] = [], pending: String? = nil) {
        self.changed = changed
        self.warnings = warnings
        self.pending = pending
    }
}
