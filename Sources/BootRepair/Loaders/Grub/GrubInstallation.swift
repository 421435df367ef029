// SPDX-License-Identifier: GPL-3.0-or-later

/// GRUB as it is installed in a system, for all of its platforms. Paths are inside the system.
struct GrubInstallation: LoaderFinding {
    /// The command that installs it, `grub-install` or `grub2-install`; `nil` where there is none.
    var install: String?
    /// The command that writes its menu.
    var update: [String]?
    /// The platforms that it can be installed for: `i386-pc`, `x86_64-efi`.
    var platforms: [String] = []
    /// The folder of its menu: `/boot/grub` or `/boot/grub2`.
    var folder = "/boot/grub"
    /// The path of that folder in the filesystem that holds it, as GRUB sees it.
    var path = "/boot/grub"
    /// What is wrong with its grub.cfg, a sentence part each; `nil` where there is none.
    var configurationProblems: [String]?
    /// Where its kernels resume from hibernation that is not on this disk, by UUID or device name.
    var lostResume: [String] = []
    /// A core.img for BIOS that grub-install left in its folder.
    var hasCoreImage = false
    /// The path of a boot.img of its own.
    var bootImage: String?
    /// Whether there is the signed shim that Secure Boot needs.
    var hasSignedShim = false
}
