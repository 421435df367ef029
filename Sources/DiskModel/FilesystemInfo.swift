// SPDX-License-Identifier: GPL-3.0-or-later

/// The content of a volume, as Reforge's own reader and libblkid agree on it.
package struct FilesystemInfo: Codable, Equatable, Sendable {
    /// The supported kinds. `other` is a kind that only libblkid knows (its name is in `kindName`).
    package enum Kind: String, Codable, Sendable, CaseIterable {
        /// Linux ext2, ext3, ext4.
        case ext2, ext3, ext4
        /// FAT with 12, 16 or 32 bits an entry.
        case fat12, fat16, fat32
        /// exFAT.
        case exfat
        /// NTFS.
        case ntfs
        /// XFS.
        case xfs
        /// Btrfs.
        case btrfs
        /// F2FS.
        case f2fs
        /// Linux swap.
        case swap
        /// A physical volume of LVM2.
        case lvm
        /// LUKS, version 1 or 2.
        case luks
        /// A member of a Linux md array.
        case raid
        /// Known to libblkid only; copied whole.
        case other
        /// Nothing recognised; copied whole.
        case unknown

        /// A kind of a later program counts as `other`: its name is in `kindName`.
        package init(from decoder: any Decoder) throws {
            let name = try decoder.singleValueContainer().decode(String.self)
            self = Kind(rawValue: name) ?? .other
        }
    }

    /// The source of the map of used ranges.
    package enum MapSource: String, Codable, Sendable {
        /// From the filesystem's own allocation structures.
        case allocationStructures
        /// Only the header is content (swap).
        case headerOnly
        /// Everything counts as used; `wholeReason` gives the reason.
        case whole
    }

    package var kind: Kind
    /// The common name: `ext4`, `vfat`, `swap`, `ntfs`, … (libblkid's TYPE).
    package var kindName: String
    /// The UUID or volume id as `blkid` shows it.
    package var uuid: String?
    /// The label.
    package var label: String?
    /// The filesystem's own length in bytes; the partition may be longer.
    package var byteCount: UInt64?
    /// The unit of allocation in bytes.
    package var blockSize: Int?
    /// The sector size in bytes that it was made for, where its structures depend on it (XFS, FAT, NTFS, Btrfs, LUKS2).
    package var sectorSize: Int?
    /// Whether it was cleanly unmounted; `nil` if the format does not record it.
    package var isClean: Bool?
    /// Names of relevant feature flags, for display.
    package var features: [String]
    /// The source of the map of used ranges.
    package var mapSource: MapSource
    /// Why everything counts as used, if it does.
    package var wholeReason: String?
    /// The least length in bytes to which it could shrink, where known.
    package var leastByteCount: UInt64?
    /// Its last mount point, where the format records it (ext: s_last_mounted).
    package var lastMountPoint: String?
    /// Remarks for the user: a hibernation image in swap, …
    package var remarks: [String]
    /// The volumes inside a container, in its own order: the logical volumes of LVM, the content of LUKS or md. `nil`
    /// for other kinds, or where the container could not be opened.
    package var inner: [InnerVolume]?
    /// The data needed to resize a physical volume of LVM; `nil` for other kinds, and where it was not surveyed.
    package var volumeGroup: VolumeGroup?

    /// A volume inside a container.
    package struct InnerVolume: Codable, Equatable, Sendable {
        /// Its name in the container: `vg/root` for LVM.
        package var name: String
        /// Its length in bytes.
        package var byteCount: UInt64
        package var filesystem: FilesystemInfo
        /// The bytes in use; `nil` if they were not surveyed, or by an earlier version.
        package var usedByteCount: UInt64?
        /// Its ranges in the container in bytes, in the order of the volume; `nil` if they are unknown or too many.
        package var places: [ByteRange]?

        package init(
            name: String, byteCount: UInt64, filesystem: FilesystemInfo, usedByteCount: UInt64? = nil,
            places: [ByteRange]? = nil
        ) {
            self.places = places
            self.name = name
            self.byteCount = byteCount
            self.filesystem = filesystem
            self.usedByteCount = usedByteCount
        }
    }

    package init(
        kind: Kind, kindName: String, uuid: String? = nil, label: String? = nil, byteCount: UInt64? = nil,
        blockSize: Int? = nil, sectorSize: Int? = nil, isClean: Bool? = nil, features: [String] = [],
        mapSource: MapSource,
        wholeReason: String? = nil, leastByteCount: UInt64? = nil, lastMountPoint: String? = nil,
        remarks: [String] = [], inner: [InnerVolume]? = nil, volumeGroup: VolumeGroup? = nil
    ) {
        self.kind = kind
        self.kindName = kindName
        self.uuid = uuid
        self.label = label
        self.byteCount = byteCount
        self.blockSize = blockSize
        self.sectorSize = sectorSize
        self.isClean = isClean
        self.features = features
        self.mapSource = mapSource
        self.wholeReason = wholeReason
        self.leastByteCount = leastByteCount
        self.lastMountPoint = lastMountPoint
        self.remarks = remarks
        self.inner = inner
        self.volumeGroup = volumeGroup
    }

    /// Whether it is ext2, ext3 or ext4.
    package var isExt: Bool { [.ext2, .ext3, .ext4].contains(kind) }
    package var isFAT: Bool { [.fat12, .fat16, .fat32].contains(kind) }
}
