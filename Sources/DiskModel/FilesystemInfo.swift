// SPDX-License-Identifier: GPL-3.0-or-later

/// What a volume holds, as our own reader and libblkid agree on it.
package struct FilesystemInfo: Codable, Equatable, Sendable {
    /// The kinds that Reforge knows. `other` is one that only libblkid knows (its name is in `kindName`).
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

        /// One that a later program knows counts as `other`: its name is beside it.
        package init(from decoder: any Decoder) throws {
            let name = try decoder.singleValueContainer().decode(String.self)
            self = Kind(rawValue: name) ?? .other
        }
    }

    /// How the ranges in use are known.
    package enum MapSource: String, Codable, Sendable {
        /// From the filesystem's own allocation structures.
        case allocationStructures
        /// Only the header counts (swap).
        case headerOnly
        /// Everything is taken as used; `wholeReason` says why.
        case whole
    }

    /// What it is.
    package var kind: Kind
    /// The name that people use: `ext4`, `vfat`, `swap`, `ntfs`, … (libblkid's TYPE).
    package var kindName: String
    /// The UUID or volume id as `blkid` shows it.
    package var uuid: String?
    /// The label.
    package var label: String?
    /// The filesystem's own length in bytes; the partition may be longer.
    package var byteCount: UInt64?
    /// The unit of allocation in bytes.
    package var blockSize: Int?
    /// The sector size in bytes that it was made for, where its structures depend on one (XFS, FAT, NTFS, Btrfs, LUKS2).
    package var sectorSize: Int?
    /// Whether it was cleanly unmounted; `nil` where the format cannot say.
    package var isClean: Bool?
    /// Names of feature flags that matter, for people.
    package var features: [String]
    /// Where the map of used ranges came from.
    package var mapSource: MapSource
    /// Why everything counts as used, where it does.
    package var wholeReason: String?
    /// The least length in bytes to which it could shrink, where known.
    package var leastByteCount: UInt64?
    /// Where it was mounted last, where the format notes that (ext: s_last_mounted).
    package var lastMountPoint: String?
    /// What a person should know: a hibernation image in swap, …
    package var remarks: [String]
    /// The volumes inside a container, in its own order: the logical volumes of LVM, what LUKS or md holds. `nil` where it is
    /// none, or cannot be looked into.
    package var inner: [InnerVolume]?
    /// Of a physical volume of LVM: what a change of its size has to know. `nil` of everything else, and where nobody looked.
    package var volumeGroup: VolumeGroup?

    /// A volume inside a container.
    package struct InnerVolume: Codable, Equatable, Sendable {
        /// Its name there: `vg/root` of LVM.
        package var name: String
        /// Its length in bytes.
        package var byteCount: UInt64
        /// What it holds.
        package var filesystem: FilesystemInfo
        /// How much of it is in use, in bytes; `nil` where nobody looked, or an earlier version did.
        package var usedByteCount: UInt64?
        /// Where its bytes lie in the container, in bytes, in the order of the volume; `nil` where that is not known, or in too
        /// many pieces.
        package var places: [ByteRange]?

        /// Names a volume and what it holds.
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

    /// Describes what a volume holds.
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

    /// Whether it is one of ext2, ext3, ext4.
    package var isExt: Bool { [.ext2, .ext3, .ext4].contains(kind) }
    /// Whether it is one of the FATs.
    package var isFAT: Bool { [.fat12, .fat16, .fat32].contains(kind) }
}
