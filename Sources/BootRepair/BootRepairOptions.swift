// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// What boot repair may do, and where it runs.
public struct BootRepairOptions: Sendable {
    /// Whether the firmware's boot entries may be changed. They never are outside the recovery environment.
    public var touchNVRAM: Bool
    /// The firmware to repair for first; the other one is kept bootable where it was.
    public var firmware: Firmware
    /// Whether we run in the recovery environment, on the very machine that will boot the disk.
    public var inRecoveryEnvironment: Bool
    /// The kernel's name of the disk when it was captured (`sda`), where it is known: fstab entries that name its
    /// partitions are ours to rewrite.
    public var capturedDiskName: String?

    /// What to do; by default all of it, as fits the machine that we run on.
    public init(
        touchNVRAM: Bool = true, firmware: Firmware? = nil, inRecoveryEnvironment: Bool? = nil,
        capturedDiskName: String? = nil
    ) {
        self.touchNVRAM = touchNVRAM
        self.firmware = firmware ?? .current
        self.inRecoveryEnvironment = inRecoveryEnvironment ?? SystemFacts.isRecoveryEnvironment
        self.capturedDiskName = capturedDiskName
    }
}
