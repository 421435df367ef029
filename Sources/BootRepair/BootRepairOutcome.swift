// SPDX-License-Identifier: GPL-3.0-or-later

/// What boot repair has done.
public struct BootRepairOutcome: Codable, Equatable, Sendable {
    /// What was changed, a sentence each.
    public var changed: [String]
    /// What a person should know, a sentence each.
    public var warnings: [String]
    /// What is still needed, and how to do it; `nil` where that is nothing.
    public var pending: String?

    /// Describes an outcome.
    public init(changed: [String] = [], warnings: [String] = [], pending: String? = nil) {
        self.changed = changed
        self.warnings = warnings
        self.pending = pending
    }
}
