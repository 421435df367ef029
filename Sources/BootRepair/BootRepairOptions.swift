// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// What boot repair may do, and where it runs.
package struct BootRepairOptions: Sendable {
    /// Whether the firmware's boot entries may be changed. They never are outside the recovery environment.
    package var touchNVRAM: Bool
    /// The firmware to repair for first; the other one is kept bootable where it was.
    package var firmware: Firmware
    /// Whether we run in the recovery environment, on the very machine that will boot the disk.
    package var inRecoveryEnvironment: Bool
    /// The kernel's name of the disk when it was captured (`sda`), where it is known: fstab entries that name its
    /// partitions are ours to rewrite.
    package var capturedDiskName: String?

    /// What to do; by default all of it, as fits the machine that we run on.
    package init(
        touchNVRAM: Bool = true, firmware: Firmware? = nil, inRecoveryEnvironment: Bool? = nil,
        capturedDiskName: String? = nil
    ) {
        self.touchNVRAM = touchNVRAM
        self.firmware = firmware ?? .current
        self.inRecoveryEnvironment = inRecoveryEnvironment ?? SystemFacts.isRecoveryEnvironment
        self.capturedDiskName = capturedDiskName
    }
}
