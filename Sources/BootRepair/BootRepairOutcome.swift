// SPDX-License-Identifier: GPL-3.0-or-later

/// The result of boot repair.
package struct BootRepairOutcome: Codable, Equatable, Sendable {
    /// The changes, a sentence each.
    package var changed: [String]
    /// What did not go as planned and leaves nothing to do, a sentence each. The findings are in the plan.
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
