// SPDX-License-Identifier: GPL-3.0-or-later

/// The GRUB installation of a system, for all of its platforms. Paths are inside the system.
struct GrubInstallation: LoaderFinding {
    /// A file of the menu with names of partitions in another table.
    struct TableNames: Codable, Equatable, Sendable {
        var path: String
        var changes: [WordChange]
    }

    /// The command that installs it, `grub-install` or `grub2-install`; `nil` if there is none.
    var install: String?
    /// The command that writes its menu.
    var update: [String]?
    /// The platforms that it can be installed for: `i386-pc`, `x86_64-efi`.
    var platforms: [String] = []
    /// The folder of its menu: `/boot/grub` or `/boot/grub2`.
    var folder = "/boot/grub"
    /// The path of that folder in its filesystem, as GRUB sees it.
    var path = "/boot/grub"
    /// The problems of its grub.cfg, a sentence part each; `nil` if there is no grub.cfg.
    var configurationProblems: [String]?
    /// Whether the menu takes its entries from /boot/loader/entries, by a module that only some GRUBs have.
    var usesLoaderEntries = false
    /// The files of the menu that name partitions of an MBR on a disk with a GPT, with their changes.
    var tableNames: [TableNames] = []
    /// The missing devices from which its kernels resume from hibernation, by UUID or device name.
    var lostResume: [String] = []
    /// Whether grub-install left a core.img for BIOS in its folder.
    var hasCoreImage = false
    /// The path of its boot.img.
    var bootImage: String?
    /// Whether it has the signed shim required by Secure Boot.
    var hasSignedShim = false
}
