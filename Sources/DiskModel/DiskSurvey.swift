// SPDX-License-Identifier: GPL-3.0-or-later

/// A volume as observed: where it lies and what it holds.
public struct VolumeSurvey: Equatable, Sendable {
    /// Where it lies on the disk, in bytes.
    public var range: ByteRange
    /// The partition that it is; `nil` where the whole disk is one volume.
    public var partition: Partition?
    /// What it holds.
    public var filesystem: FilesystemInfo
    /// Which of its bytes are in use.
    public var allocation: AllocationMap

    /// Describes a volume.
    public init(range: ByteRange, partition: Partition?, filesystem: FilesystemInfo, allocation: AllocationMap) {
        self.range = range
        self.partition = partition
        self.filesystem = filesystem
        self.allocation = allocation
    }
}

/// How a disk boots, as far as its own bytes tell.
public struct BootSurvey: Codable, Equatable, Sendable {
    /// What the boot code of block 0 is: `GRUB`, `other`, or `nil` where there is none.
    public var biosBootCode: String?
    /// Whether a GRUB core image lies where its boot code looks for it; `nil` without GRUB.
    public var biosCoreImageFound: Bool?
    /// Loaders on the EFI system partition, as paths with backslashes, e.g. `\EFI\debian\grubx64.efi`.
    public var efiLoaders: [String]

    /// Describes how a disk boots.
    public init(biosBootCode: String? = nil, biosCoreImageFound: Bool? = nil, efiLoaders: [String] = []) {
        self.biosBootCode = biosBootCode
        self.biosCoreImageFound = biosCoreImageFound
        self.efiLoaders = efiLoaders
    }
}

/// A disk as observed: reads only.
public struct DiskSurvey: Equatable, Sendable {
    /// Which disk.
    public var identity: DiskIdentity
    /// How large, in which units.
    public var geometry: DiskGeometry
    /// Its partition table.
    public var table: PartitionTable
    /// Its volumes in ascending order of place: one a partition, or one for a disk without a table.
    public var volumes: [VolumeSurvey]
    /// How it boots.
    public var boot: BootSurvey
    /// What a person should know.
    public var warnings: [String]

    /// Describes a disk.
    public init(
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
