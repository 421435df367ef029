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
    /// The names of the hooks that are to run, in order.
    package var plannedHooks: [String] = []
    package var hooks: [HookResult] = []

    /// What a dry run shows, a line each.
    package var rehearsal: [String] {
        var lines = plan?.lines ?? []
        if plan?.changesIdentifiers == true {
            lines.append("then: boot repair, which makes loaders again that hold old identifiers")
        }
        if !plannedHooks.isEmpty {
            lines.append("then: the hooks \(plannedHooks.joined(separator: ", ")), confined in the system")
        }
        return lines
    }
}
