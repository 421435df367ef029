// SPDX-License-Identifier: GPL-3.0-or-later

/// The program that made an initramfs.
package enum InitramfsGenerator: String, Codable, Sendable {
    /// Debian's and Ubuntu's.
    case initramfsTools = "initramfs-tools"
    /// Fedora's, RHEL's, SUSE's.
    case dracut
    /// Arch's.
    case mkinitcpio
    case unknown
}
