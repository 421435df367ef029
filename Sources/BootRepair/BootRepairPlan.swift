// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import SystemAccess

/// The changes that boot repair will make, and no others.
package struct BootRepairPlan: Encodable, Equatable, Sendable, CustomStringConvertible {
    /// A mount of a partition inside the installed system while the steps run.
    package struct MountPoint: Codable, Equatable, Sendable {
        /// The number of the partition.
        package var partition: Int
        /// The folder inside the system, `/` for its root.
        package var path: String
        /// The subvolume of Btrfs; `nil` for the filesystem's default.
        package var subvolume: String?

        /// Describes a mount.
        package init(partition: Int, path: String, subvolume: String? = nil) {
            self.partition = partition
            self.path = path
            self.subvolume = subvolume
        }
    }

    /// The identity of the disk.
    package var disk: DiskIdentity
    /// The GUID of its table.
    package var diskGUID: GUID?
    /// The disk signature of its MBR.
    package var diskSignature: UInt32?
    /// Its partitions when the plan was made.
    package var volumes: [BootVolume]
    /// The firmware of the machine.
    package var firmware: Firmware
    /// The name of the installed system.
    package var systemName: String?
    /// The folder of the loader's configuration in the installed system.
    package var configurationFolder: String
    /// The command line that kernel-install is given; `nil` if the system has its own.
    package var kernelCommandLine: KernelCommandLine?
    /// The mounts needed by the steps, the root first. Empty if no step needs one.
    package var mounts: [MountPoint]
    /// The steps, in order.
    package var steps: [BootRepairStep]
    /// What needs no change, a sentence each.
    package var alreadyRight: [String]
    /// What is wrong, or to be known, in the order of a start.
    package var findings: [Finding]
    /// The needed work that cannot be done here, and how to do it; `nil` if there is none.
    package var pendingReason: String?

    /// The keys of `reforge boot-repair --json`.
    private enum CodingKeys: String, CodingKey {
        case disk, diskGUID, diskSignature, volumes, firmware, systemName, kernelCommandLine
        case configurationFolder = "grubFolder"
        case mounts, steps, alreadyRight, findings, pendingReason
    }

    /// Describes a plan.
    package init(
        disk: DiskIdentity, diskGUID: GUID? = nil, diskSignature: UInt32? = nil, volumes: [BootVolume] = [],
        firmware: Firmware,
        systemName: String? = nil, configurationFolder: String = "/boot/grub", mounts: [MountPoint] = [],
        steps: [BootRepairStep] = [], alreadyRight: [String] = [], findings: [Finding] = [],
        pendingReason: String? = nil
    ) {
        self.disk = disk
        self.diskGUID = diskGUID
        self.diskSignature = diskSignature
        self.volumes = volumes
        self.firmware = firmware
        self.systemName = systemName
        self.configurationFolder = configurationFolder
        self.mounts = mounts
        self.steps = steps
        self.alreadyRight = alreadyRight
        self.findings = findings
        self.pendingReason = pendingReason
    }

    /// Whether nothing needs to be changed.
    package var isEmpty: Bool { steps.isEmpty && pendingReason == nil }

    /// The plan as text, a line each.
    package var lines: [String] {
        var lines = [
            "Boot repair of \(disk.path): \(systemName ?? "no installed Linux system found"), \(firmware) firmware"
        ]
        for (index, step) in steps.enumerated() { lines.append("  \(index + 1). \(step)") }
        if steps.isEmpty { lines.append("  nothing to do") }
        lines += alreadyRight.map { "  right as it is: \($0)" }
        lines += findings.flatMap(\.lines).map { "  \($0)" }
        if let pendingReason { lines.append("  pending: \(pendingReason)") }
        return lines
    }

    /// The plan as text.
    package var description: String { lines.joined(separator: "\n") }
}
