// SPDX-License-Identifier: GPL-3.0-or-later

/// What boot repair has done.
package struct BootRepairOutcome: Codable, Equatable, Sendable {
    /// What was changed, a sentence each.
    package var changed: [String]
    /// What a person should know, a sentence each.
    package var warnings: [String]
    /// What is still needed, and how to do it; `nil` where that is nothing.
    package var pending: String?

    /// Describes an outcome.
    package init(changed: [String] = [], warnings: [String] = [], pending: String? = nil) {
        self.changed = changed
        self.warnings = warnings
        self.pending = pending
    }
}
