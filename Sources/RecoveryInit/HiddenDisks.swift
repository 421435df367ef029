// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// NVMe disks that an Intel controller in RAID mode (RST) keeps from every system without Intel's driver: they are in no
/// list of disks, so that only this says why.
enum HiddenDisks {
    /// What is known of them, as a sentence; `nil` if nothing hints at hidden disks.
    static func warning(controllers: [DeviceDriver], kernelLog: [KernelLog.Record]) -> String? {
        // drivers/ata/ahci.c, ahci_remap_check
        let areFound = kernelLog.contains {
            $0.message.contains(": Found ") && $0.message.contains(" remapped NVMe device")
        }
        guard areFound || controllers.contains(where: \.hidesNVMe) else { return nil }
        let what =
            areFound
            ? "NVMe disks of this machine are hidden by its Intel storage controller, which is in RAID mode (RST)."
            : "An Intel storage controller of this machine is in RAID mode (RST), which can hide NVMe disks."
        return what
            + " Set it to AHCI in the firmware's setup to see them. An installed Windows needs its drivers storahci and "
            + "stornvme enabled first."
    }
}
