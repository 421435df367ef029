// SPDX-License-Identifier: GPL-3.0-or-later

/// The Linux system on a disk, as far as booting is concerned. Paths are inside the system.
package struct InstalledSystem: Codable, Equatable, Sendable {
    /// A kernel in /boot.
    package struct Kernel: Codable, Equatable, Sendable {
        /// The file's name: `vmlinuz-6.1.0-18-amd64`.
        package var name: String
        /// The name of its initramfs; `nil` where there is none.
        package var initramfs: String?

        /// Describes a kernel.
        package init(name: String, initramfs: String?) {
            self.name = name
            self.initramfs = initramfs
        }
    }

    /// The number of the partition or volume that holds its root.
    package var rootPartition: Int
    /// The subvolume of Btrfs that its root is; `nil` for the filesystem's default.
    package var rootSubvolume: String?
    /// os-release's PRETTY_NAME.
    package var name: String
    /// os-release's ID: `debian`, `ubuntu`, …
    package var identifier: String
    /// The entries of /etc/fstab, resolved on this disk.
    package var fstab: [FstabEntry]
    /// The kernels in /boot.
    package var kernels: [Kernel]
    /// Whether its initramfs is made for the hardware that it was made on only.
    package var initramfsIsForOneMachine: Bool
    /// Where its initramfs resumes from hibernation that is not on this disk, by UUID or device name.
    package var lostResume: [String]
    /// Whether its programs are for this processor.
    package var programsRunHere: Bool

    /// Describes an installed system.
    package init(
        rootPartition: Int, rootSubvolume: String? = nil, name: String, identifier: String, fstab: [FstabEntry] = [],
        kernels: [Kernel] = [],
        initramfsIsForOneMachine: Bool = false, lostResume: [String] = [], programsRunHere: Bool = true
    ) {
        self.rootPartition = rootPartition
        self.rootSubvolume = rootSubvolume
        self.name = name
        self.identifier = identifier
        self.fstab = fstab
        self.kernels = kernels
        self.initramfsIsForOneMachine = initramfsIsForOneMachine
        self.lostResume = lostResume
        self.programsRunHere = programsRunHere
    }

    /// The partition that /boot is on.
    package var bootPartition: Int {
        fstab.first { $0.mountPoint == "/boot" }?.partition ?? rootPartition
    }

    /// What its fstab mounts at /boot and below it, but for the ESP: parts of the folder that loaders and kernels are in,
    /// which subvolumes of the root's own filesystem may be. Outer ones first.
    package var bootMounts: [BootRepairPlan.MountPoint] {
        fstab.filter { entry in
            let isBoot = entry.mountPoint == "/boot"
            guard isBoot || entry.mountPoint.hasPrefix("/boot/") && entry.type != "vfat" && !entry.isOptional,
                let partition = entry.partition
            else { return false }
            return partition != rootPartition || entry.subvolume != nil
        }
        .map { .init(partition: $0.partition ?? rootPartition, path: $0.mountPoint, subvolume: $0.subvolume) }
        .sorted { $0.path.count < $1.path.count }
    }

    /// The device of a /boot that its fstab names, and that cannot be mounted here: another disk's, or a subvolume that only
    /// a number names. The folder below it is not the one that the system starts from.
    package var missingBoot: String? {
        guard let boot = fstab.first(where: { $0.mountPoint == "/boot" }),
            !bootMounts.contains(where: { $0.path == "/boot" })
        else { return nil }
        let isMissing = boot.resolution == .elsewhere || boot.options.contains { $0.hasPrefix("subvolid=") }
        return isMissing ? boot.device : nil
    }

    /// Where its fstab mounts a partition.
    package func mountPoint(ofPartition number: Int) -> String? {
        fstab.first { $0.partition == number && $0.mountPoint.hasPrefix("/") }?.mountPoint
    }
}
