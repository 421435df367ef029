// SPDX-License-Identifier: GPL-3.0-or-later

/// The result of giving a system a new identity.
package struct IdentityOutcome: Codable, Equatable, Sendable {
    /// The changes, a sentence each.
    package var changed: [String] = []
    /// Warnings for the user, a sentence each.
    package var warnings: [String] = []
    /// What cannot be renewed offline, a sentence each.
    package var byHand: [String] = []
    /// What was asked for and is not done, a sentence each.
    package var pending: [String] = []

    package init() {}
}
