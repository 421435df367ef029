// SPDX-License-Identifier: GPL-3.0-or-later
import Customization

/// The result of a new identity, in the report of a restore.
package struct IdentityReport: Encodable {
    package var plan: IdentityPlan
    package var changed: [String]
    package var byHand: [String]
    package var pending: [String]

    package init(_ plan: IdentityPlan, _ outcome: IdentityOutcome) {
        self.plan = plan
        changed = outcome.changed
        byHand = outcome.byHand
        pending = outcome.pending
    }
}
