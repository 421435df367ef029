// SPDX-License-Identifier: GPL-3.0-or-later

/// The codes about what a kernel and its initramfs hold.
extension FindingCode {
    /// In the order of docs/boot.md.
    package static let initramfs: [FindingCode] = [
        .initramfsMissing, .initramfsDamaged, .initramfsUnread, .initramfsForOneMachine, .initramfsReferenceLost,
        .driverMissing, .driverNotInKernel, .kernelModulesMissing,
    ]

    static let initramfsMissing = FindingCode(
        "initramfs-missing", .initramfs, .mayStop, "A kernel has no initramfs: it may not find its disk",
        fix: "Boot repair makes it where the machine is known, by the system's own generator")
    static let initramfsDamaged = FindingCode(
        "initramfs-damaged", .initramfs, .stops, "The kernel cannot unpack its initramfs",
        fix: "Boot repair rebuilds it where the machine is known; else rebuild it in the system")
    static let initramfsUnread = FindingCode(
        "initramfs-unread", .initramfs, .note, "Reforge could not read the initramfs: its drivers are not judged",
        fix: "The finding says why; judge it from the medium, which has the programs to unpack it")
    static let initramfsForOneMachine = FindingCode(
        "initramfs-one-machine", .initramfs, .mayStop,
        "The initramfs holds only the drivers of the machine that it was made on",
        fix: "On other hardware, run boot repair from the medium: it rebuilds it if a driver is missing")
    static let initramfsReferenceLost = FindingCode(
        "initramfs-reference-lost", .initramfs, .mayStop,
        "The initramfs names a volume that is not on this disk: the start may wait for it or stop",
        fix: "Correct the system's configuration (crypttab, mdadm.conf, dracut.conf.d), and rebuild it")
    static let driverMissing = FindingCode(
        "driver-missing", .driver, .stops,
        "The initramfs lacks a module without which the kernel finds no root on this machine",
        fix: "Boot repair rebuilds it by the system's own generator, and keeps the old one")
    static let kernelModulesMissing = FindingCode(
        "kernel-modules-missing", .driver, .note,
        "A kernel has no folder of modules: the drivers in its initramfs are not judged",
        fix: "None for a rescue kernel; else install the kernel in the system again")
    static let driverNotInKernel = FindingCode(
        "driver-not-in-kernel", .driver, .stops,
        "The installed kernel has no driver for what the disk hangs on in this machine",
        fix: "Attach the disk to another controller, or install a newer kernel in the system")
}
