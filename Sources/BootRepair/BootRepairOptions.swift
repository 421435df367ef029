// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// The permissions and environment of boot repair.
package struct BootRepairOptions: Sendable {
    /// Whether the firmware's boot entries may be changed. Outside the recovery environment they never are.
    package var touchNVRAM: Bool
    /// The firmware to repair for first; a boot chain for the other firmware is kept working.
    package var firmware: Firmware
    /// Whether this runs in the recovery environment, on the machine that will boot the disk.
    package var inRecoveryEnvironment: Bool
    /// The kernel's name of the disk when it was captured (`sda`), if known: fstab entries that name its partitions are
    /// rewritten.
    package var capturedDiskName: String?
    /// The files with the keys of LUKS volumes, which are opened with them.
    package var luksKeyFiles: [FilePath] = []
    /// The PARTUUIDs, in lower case, that partitions had when they were captured, with the partitions' numbers: a restore
    /// that replaces an MBR by a GPT gives them others.
    package var capturedPartUUIDs: [String: Int] = [:]
    /// Whether random seeds that a restore brought back are removed.
    package var renewsSeeds = false
    /// The machine that the disk is judged for: its firmware is the option `firmware`. `nil`: the machine that runs
    /// this, in the recovery environment; else any machine.
    package var machine: MachineRecord?
    /// Whether `machine` is the one that runs this, and the disk is attached to it by the kernel's name of the survey.
    package var isHere: Bool

    /// Makes options; by default everything that fits the running machine.
    package init(
        touchNVRAM: Bool = true, firmware: Firmware? = nil, inRecoveryEnvironment: Bool? = nil,
        capturedDiskName: String? = nil, machine: MachineRecord? = nil, isHere: Bool = false
    ) {
        self.touchNVRAM = touchNVRAM
        self.firmware = firmware ?? machine?.firmware ?? .current
        self.inRecoveryEnvironment = inRecoveryEnvironment ?? SystemFacts.isRecoveryEnvironment
        self.capturedDiskName = capturedDiskName
        self.machine = machine
        self.isHere = isHere
    }

    /// What a disk hangs on in the machine that it is judged for, a row of devices for each way that is possible there;
    /// empty if the machine is unknown.
    func ways(to disk: DiskIdentity) -> [[DeviceDriver]] {
        // In another machine, the disk has no name yet.
        let ways = machine?.devices(behind: isHere ? disk.kernelName : nil) ?? []
        return ways.filter { !$0.isEmpty }
    }
}
