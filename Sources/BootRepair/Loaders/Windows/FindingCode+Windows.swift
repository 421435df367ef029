// SPDX-License-Identifier: GPL-3.0-or-later

/// The codes of Windows, in the order of its start.
extension FindingCode {
    static let windowsStoreMissing = FindingCode(
        "windows-store-missing", .windows, .stops,
        "The EFI system partition holds the Windows Boot Manager and no boot configuration store",
        fix: "Make it in Windows' recovery environment: `bcdboot C:\\Windows`")
    static let windowsStoreUnread = FindingCode(
        "windows-store-unread", .windows, .stops, "A boot configuration store of Windows cannot be read, or is in use",
        fix: "The finding says why: start Windows' recovery environment for a damaged one")
    static let windowsStoreOutdated = FindingCode(
        "windows-store-outdated", .windows, .stops,
        "The boot configuration store names partitions or a disk by identifiers, or places, that they no longer have",
        fix: "Boot repair writes this disk's into its entries, in place")
    static let windowsEntryLost = FindingCode(
        "windows-entry-lost", .windows, .stops,
        "An entry of the boot configuration store names a partition that is not on this disk",
        fix: "Attach the disk that it is on, or remove the entry in Windows")
    static let windowsUnread = FindingCode(
        "windows-unread", .windows, .stops,
        "Windows was not shut down (hibernation, fast start), or its registry cannot be changed safely",
        fix: "Start it once on its old machine, and shut it down while pressing Shift; the finding says why")
    static let windowsDriverOff = FindingCode(
        "windows-driver-off", .windows, .stops,
        "Windows has the driver of the machine's disk controller, and does not start it with the system",
        fix: "Boot repair sets it to start, in place")
    static let windowsDriverMissing = FindingCode(
        "windows-driver-missing", .windows, .stops, "Windows has no driver for the machine's disk controller",
        fix: "Install the driver in Windows on the old machine and capture it again, or use another controller")
    static let windowsControllerUnknown = FindingCode(
        "windows-controller-unknown", .windows, .mayStop,
        "The machine's disk controller is none that Windows is known to start from",
        fix: "None: the drivers of Windows are not checked")
}
