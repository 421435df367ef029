// SPDX-License-Identifier: GPL-3.0-or-later

/// The codes that belong to no loader.
extension FindingCode {
    /// In the order of docs/boot.md. A new code is added here, or to its loader's row.
    package static let common: [FindingCode] = [
        .noBIOSBoot, .noUEFIBoot, .secureBootUnsigned, .controllerRAIDMode, .otherProcessor, .entryMissing,
        .entryNotFirst, .entryStale, .entriesUnreadable, .tableMissing, .espUnreadable, .fallbackMissing,
        .fallbackForeign, .stepRefused, .luksSealed, .bitLocker, .kernelMissing, .notAdapted, .systemMissing,
        .systemUnread,
        .otherSystems, .fstabRootElsewhere, .fstabElsewhere,
        .fstabDeviceName, .resumeLost, .espNotMounted,
    ]

    static let noBIOSBoot = FindingCode(
        "no-bios-boot", .firmware, .stops,
        "The machine starts by BIOS, and the disk has no boot code and no place for it",
        fix: "Switch the machine's firmware to UEFI, or restore with `--firmware bios`")
    static let noUEFIBoot = FindingCode(
        "no-uefi-boot", .firmware, .stops,
        "The machine starts by UEFI, and the disk has no EFI system partition",
        fix: "Switch the machine's firmware to legacy BIOS (CSM), or restore with `--firmware uefi`")
    static let secureBootUnsigned = FindingCode(
        "secure-boot-unsigned", .firmware, .stops,
        "The machine enforces Secure Boot, and the loader has no signature",
        fix: "Switch Secure Boot off, or install the distribution's signed shim and GRUB")
    static let controllerRAIDMode = FindingCode(
        "controller-raid-mode", .firmware, .mayStop,
        "An Intel storage controller is in RAID mode, which can hide NVMe disks",
        fix: "Set it to AHCI in the firmware's setup; enable Windows' storahci and stornvme first")
    static let otherProcessor = FindingCode(
        "other-processor", .firmware, .mayStop, "The installed system is for another processor",
        fix: "Start it on a machine with a processor of its kind")
    package static let notAdapted = FindingCode(
        "not-adapted", .driver, .mayStop, "An exported disk was not adapted to its hypervisor: it is as captured",
        fix: "The finding says why and what helps; boot repair does the same, from the medium in that machine")
    static let luksSealed = FindingCode(
        "luks-sealed", .root, .mayStop, "An encrypted volume is opened by the TPM of the old machine",
        fix: "Have its passphrase or recovery key at hand; enroll the new TPM afterwards")
    static let bitLocker = FindingCode(
        "bitlocker", .root, .mayStop, "A volume is encrypted by BitLocker, whose key the old machine's TPM holds",
        fix: "Have its recovery key at hand")
    static let tableMissing = FindingCode(
        "table-missing", .table, .stops, "The disk has no partition table: no loader is looked for",
        fix: "None: a disk without a table holds data, not an installed system")

    static let espUnreadable = FindingCode(
        "esp-unreadable", .bootCode, .stops, "The EFI system partition cannot be read",
        fix: "Repair its FAT (`fsck.vfat`), or format it; boot repair then fills it")
    static let fallbackForeign = FindingCode(
        "fallback-foreign", .bootCode, .note, "The fallback loader belongs to another system",
        fix: "It is kept. Firmware needs an entry for this system's loader")
    static let fallbackMissing = FindingCode(
        "fallback-missing", .bootCode, .mayStop,
        "There is no fallback loader: a machine without an entry for this disk does not start it",
        fix: "Boot repair copies this system's loader there")
    static let entryMissing = FindingCode(
        "firmware-entry-missing", .firmware, .note, "The firmware has no entry for this system's loader",
        fix: "Boot repair adds it, from the medium")
    static let entryStale = FindingCode(
        "firmware-entry-stale", .firmware, .note, "An entry of the firmware points to a partition that is on no disk",
        fix: "Boot repair removes it, from the medium")
    static let entryNotFirst = FindingCode(
        "firmware-entry-not-first", .firmware, .mayStop, "The firmware's entry for this system is not in use",
        fix: "Boot repair puts it first, from the medium")
    static let entriesUnreadable = FindingCode(
        "firmware-entries-unreadable", .firmware, .mayStop, "The firmware's entries cannot be read",
        fix: "Add the entry in the firmware's setup, unless the fallback loader is this system's")
    static let stepRefused = FindingCode(
        "step-refused", .loader, .mayStop, "A loader's step breaks a rule of boot repair",
        fix: "None: foreign loaders stay, and the firmware is changed from the medium only")

    static let kernelMissing = FindingCode(
        "kernel-missing", .kernel, .stops, "The installed system has no kernel",
        fix: "Install a kernel in the system, from its rescue medium")
    static let systemMissing = FindingCode(
        "system-missing", .root, .note, "No installed Linux system was found",
        fix: "None, unless it is encrypted: open it with its key")
    static let systemUnread = FindingCode(
        "system-unread", .root, .mayStop, "A partition, or the choice of the system on it, could not be read",
        fix: "The finding says why")
    static let otherSystems = FindingCode(
        "other-systems", .root, .note, "There are several systems, and only one is judged",
        fix: "None: the system is chosen whose fstab names its own partition as root")
    static let fstabRootElsewhere = FindingCode(
        "fstab-root-elsewhere", .root, .mayStop, "fstab names a root that is not on this disk",
        fix: "Correct the line of `/` in fstab")
    static let fstabElsewhere = FindingCode(
        "fstab-elsewhere", .references, .mayStop,
        "fstab names a filesystem that is not on this disk: where it is missing, the system waits for it and starts in emergency mode",
        fix: "Attach that disk, or add `nofail` to the line")
    static let fstabDeviceName = FindingCode(
        "fstab-device-name", .references, .mayStop,
        "fstab names a partition by a device name, which is another on this machine",
        fix: "Boot repair writes the UUID instead")
    static let resumeLost = FindingCode(
        "resume-lost", .references, .mayStop,
        "The system resumes from a device that is not on this disk by that name: each start may wait for it",
        fix: "Correct `resume=` and rebuild the initramfs")
}
