// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles

/// The boot-related data of the Linux system on a disk. Paths are inside the system.
package struct InstalledSystem: Codable, Equatable, Sendable {
    /// A kernel in /boot.
    package struct Kernel: Codable, Equatable, Sendable {
        /// The file's name: `vmlinuz-6.1.0-18-amd64`.
        package var name: String
        /// The name of its initramfs; `nil` if there is none.
        package var initramfs: String?
        /// The name of the folder of its modules below /lib/modules; `nil` if there is none.
        package var version: String?
        /// What a start on the machine needs of it; empty if the machine or the kernel's modules are unknown.
        package var needs: [ModuleNeed]
        /// What its initramfs holds; `nil` if there is none.
        package var contents: InitramfsSurvey?
        /// The name of an additional initramfs with the drivers of all machines (mkinitcpio's preset `fallback`).
        package var fallback: String?
        /// Whether that one holds what the first one lacks.
        package var fallbackIsWhole = false

        /// Describes a kernel.
        package init(
            name: String, initramfs: String?, version: String? = nil, needs: [ModuleNeed] = [],
            contents: InitramfsSurvey? = nil
        ) {
            self.name = name
            self.initramfs = initramfs
            self.version = version
            self.needs = needs
            self.contents = contents
        }
    }

    /// The number of the partition or volume that holds its root.
    package var rootPartition: Int
    /// The Btrfs subvolume of its root; `nil` for the filesystem's default.
    package var rootSubvolume: String?
    /// os-release's PRETTY_NAME.
    package var name: String
    /// os-release's ID: `debian`, `ubuntu`, …
    package var identifier: String
    /// The entries of /etc/fstab, resolved on this disk.
    package var fstab: [FstabEntry]
    /// The kernels in /boot.
    package var kernels: [Kernel]
    /// The programs that it has for making an initramfs.
    package var initramfsGenerators: [InitramfsGenerator]
    /// The missing devices from which its initramfs resumes from hibernation, by UUID or device name.
    package var lostResume: [String]
    /// Whether its programs are for this processor.
    package var programsRunHere: Bool

    /// Describes an installed system.
    package init(
        rootPartition: Int, rootSubvolume: String? = nil, name: String, identifier: String, fstab: [FstabEntry] = [],
        kernels: [Kernel] = [],
        initramfsGenerators: [InitramfsGenerator] = [], lostResume: [String] = [], programsRunHere: Bool = true
    ) {
        self.rootPartition = rootPartition
        self.rootSubvolume = rootSubvolume
        self.name = name
        self.identifier = identifier
        self.fstab = fstab
        self.kernels = kernels
        self.initramfsGenerators = initramfsGenerators
        self.lostResume = lostResume
        self.programsRunHere = programsRunHere
    }

    /// The partition that holds /boot.
    package var bootPartition: Int {
        fstab.first { $0.mountPoint == "/boot" }?.partition ?? rootPartition
    }

    /// The fstab mounts at and below /boot except the ESP: parts of the folder with loaders and kernels, which may be
    /// subvolumes of the root filesystem. Outer mounts first.
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

    /// The device of a /boot in fstab that cannot be mounted here: one on another disk, or a subvolume given only by
    /// number. The underlying folder is not the one from which the system starts.
    package var missingBoot: String? {
        guard let boot = fstab.first(where: { $0.mountPoint == "/boot" }),
            !bootMounts.contains(where: { $0.path == "/boot" })
        else { return nil }
        let isMissing = boot.resolution == .elsewhere || boot.options.contains { $0.hasPrefix("subvolid=") }
        return isMissing ? boot.device : nil
    }

    /// The fstab mount point of a partition.
    package func mountPoint(ofPartition number: Int) -> String? {
        fstab.first { $0.partition == number && $0.mountPoint.hasPrefix("/") }?.mountPoint
    }
}
