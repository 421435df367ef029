// SPDX-License-Identifier: GPL-3.0-or-later

/// A surveyed volume: its place and content.
package struct VolumeSurvey: Equatable, Sendable {
    /// Its range on the disk, in bytes.
    package var range: ByteRange
    /// Its partition; `nil` if the whole disk is one volume.
    package var partition: Partition?
    package var filesystem: FilesystemInfo
    /// The bytes in use.
    package var allocation: AllocationMap

    package init(range: ByteRange, partition: Partition?, filesystem: FilesystemInfo, allocation: AllocationMap) {
        self.range = range
        self.partition = partition
        self.filesystem = filesystem
        self.allocation = allocation
    }
}

/// The boot code and loaders of a disk, according to its own bytes.
package struct BootSurvey: Codable, Equatable, Sendable {
    /// The boot code of block 0: `GRUB`, `other`, or `nil` without any.
    package var biosBootCode: String?
    /// Whether a GRUB core image is at the place given by its boot code; `nil` without GRUB.
    package var biosCoreImageFound: Bool?
    /// Loaders on the EFI system partition, as paths with backslashes, e.g. `\EFI\debian\grubx64.efi`.
    package var efiLoaders: [String]

    package init(biosBootCode: String? = nil, biosCoreImageFound: Bool? = nil, efiLoaders: [String] = []) {
        self.biosBootCode = biosBootCode
        self.biosCoreImageFound = biosCoreImageFound
        self.efiLoaders = efiLoaders
    }

    /// Whether the disk starts by BIOS, as far as its bytes say.
    ///
    /// Partition tools write code into the protective MBR that only prints a message. What starts from a GPT by BIOS
    /// without GRUB has a partition with the attribute for that (UEFI 2.10 §5.3.3, table 5-8, bit 2).
    /// - Parameter attributes: those of the partitions.
    package func startsByBIOS(from kind: PartitionTable.Kind, attributes: [UInt64]) -> Bool {
        guard let biosBootCode else { return false }
        if biosBootCode == "GRUB" { return biosCoreImageFound != false }
        return kind != .gpt || attributes.contains { $0 & 4 != 0 }
    }
}

/// A surveyed disk. The survey only reads.
package struct DiskSurvey: Equatable, Sendable {
    package var identity: DiskIdentity
    package var geometry: DiskGeometry
    package var table: PartitionTable
    /// Its volumes in ascending order of place: one per partition, or one for a disk without a table.
    package var volumes: [VolumeSurvey]
    package var boot: BootSurvey
    /// Warnings for the user.
    package var warnings: [String]

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
