// SPDX-License-Identifier: GPL-3.0-or-later

/// The firmware that a restored disk is made to start by.
package enum FirmwareChoice: String, Codable, Sendable, CaseIterable {
    /// As captured: the partition table stays.
    case keep
    /// The firmware of the machine that restores.
    case auto
    case bios, uefi
}
