// SPDX-License-Identifier: GPL-3.0-or-later

/// A volume as observed: where it lies and what it holds.
package struct VolumeSurvey: Equatable, Sendable {
    /// Where it lies on the disk, in bytes.
    package var range: ByteRange
    /// The partition that it is; `nil` where the whole disk is one volume.
    package var partition: Partition?
    /// What it holds.
    package var filesystem: FilesystemInfo
    /// Which of its bytes are in use.
    package var allocation: AllocationMap

    /// Describes a volume.
    package init(range: ByteRange, partition: Partition?, filesystem: FilesystemInfo, allocation: AllocationMap) {
        self.range = range
        self.partition = partition
        self.filesystem = filesystem
        self.allocation = allocation
    }
}

/// How a disk boots, as far as its own bytes tell.
package struct BootSurvey: Codable, Equatable, Sendable {
    /// What the boot code of block 0 is: `GRUB`, `other`, or `nil` where there is none.
    package var biosBootCode: String?
    /// Whether a GRUB core image lies where its boot code looks for it; `nil` without GRUB.
    package var biosCoreImageFound: Bool?
    /// Loaders on the EFI system partition, as paths with backslashes, e.g. `\EFI\debian\grubx64.efi`.
    package var efiLoaders: [String]

    /// Describes how a disk boots.
    package init(biosBootCode: String? = nil, biosCoreImageFound: Bool? = nil, efiLoaders: [String] = []) {
        self.biosBootCode = biosBootCode
        self.biosCoreImageFound = biosCoreImageFound
        self.efiLoaders = efiLoaders
    }
}

/// A disk as observed: reads only.
package struct DiskSurvey: Equatable, Sendable {
    /// Which disk.
    package var identity: DiskIdentity
    /// How large, in which units.
    package var geometry: DiskGeometry
    /// Its partition table.
    package var table: PartitionTable
    /// Its volumes in ascending order of place: one a partition, or one for a disk without a table.
    package var volumes: [VolumeSurvey]
    /// How it boots.
    package var boot: BootSurvey
    /// What a person should know.
    package var warnings: [String]

    /// Describes a disk.
    package init(
        identity: DiskIdentity, geometry: DiskGeometry, table: PartitionTable, volumes: [VolumeSurvey],
        boot: BootSurvey = BootSurvey(), warnings: [String] = []
    ) {
        self.identity = identity
        self.geometry = geometry
        self.table = table
        self.volumes = volumes
        self.boot = boot
        self.warnings = warnings
    }
}
