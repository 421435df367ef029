// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import Customization

/// The result of `customize`, or of its dry run.
package struct CustomizeReport: Encodable {
    package let schema = 1
    package var dryRun: Bool
    package var disk: String
    /// The plan of the new identity; `nil` if none was asked for.
    package var plan: IdentityPlan?
    package var changed: [String] = []
    package var warnings: [String] = []
    /// What must be done in the started system.
    package var byHand: [String] = []
    /// What was asked for and is not done.
    package var pending: [String] = []
    package var hooks: [HookResult] = []
}
