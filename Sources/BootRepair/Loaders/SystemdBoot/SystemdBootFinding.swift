// SPDX-License-Identifier: GPL-3.0-or-later

/// systemd-boot on a disk, and what the installed system has of it. Paths on FAT have backslashes only for loaders.
package struct SystemdBootFinding: LoaderFinding {
    /// Its loader on the EFI system partition; `nil` if there is none.
    package var loader: EFILoader?
    /// Whether the fallback loader is systemd-boot.
    package var isFallback = false
    /// `default` of loader.conf.
    package var defaultEntry: String?
    /// All entries, of all systems.
    package var entries: [LoaderEntry] = []
    /// Whether there is /loader/random-seed on the EFI system partition.
    package var hasSeed = false
    /// The loader's file in the installed system.
    package var packaged: String?
    /// Whether the installed system has bootctl.
    package var hasBootctl = false
    /// Whether the installed system has kernel-install.
    package var hasKernelInstall = false
    /// Whether the installed system has a kernel command line for kernel-install.
    package var hasCommandLine = false
    /// The kernel files by version that kernel-install can write entries for.
    package var kernelFiles: [String: String] = [:]

    package init() {}

    /// The entries that start the surveyed system, as far as known.
    var own: [LoaderEntry] { entries.filter { $0.isOwn == true } }
}
