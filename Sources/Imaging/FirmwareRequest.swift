// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// The firmware that a restored disk is to start by.
package struct FirmwareRequest: Equatable, Sendable {
    package var goal: TableConversion.Goal
    /// Whether a disk that cannot be converted is refused; otherwise its table stays, with a warning.
    package var isRequired: Bool

    package init(_ goal: TableConversion.Goal, isRequired: Bool) {
        self.goal = goal
        self.isRequired = isRequired
    }
}

extension TableConversion.Goal {
    /// The name for the user.
    package var name: String { self == .bios ? "BIOS" : "UEFI" }
    var other: TableConversion.Goal { self == .bios ? .uefi : .bios }
}
