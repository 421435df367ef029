// SPDX-License-Identifier: GPL-3.0-or-later
public import ByteParsing
public import DiskModel

/// A partition as far as booting is concerned.
public struct BootVolume: Codable, Equatable, Sendable {
    /// Its number in the table, from 1.
    public var number: Int
    /// Where it lies on the disk, in bytes.
    public var range: ByteRange
    /// What it is for.
    public var typeGUID: GUID
    /// The GUID of this very partition (PARTUUID).
    public var guid: GUID
    /// What PARTUUID= names it by.
    public var partUUID: String
    /// Its name (PARTLABEL).
    public var name: String
    /// What it holds.
    public var kind: FilesystemInfo.Kind
    /// The name of what it holds, as libblkid has it: `ext4`, `vfat`, …
    public var kindName: String
    /// The filesystem's UUID or volume id.
    public var uuid: String?
    /// The filesystem's label.
    public var label: String?

    /// Describes a partition.
    public init(
        number: Int, range: ByteRange, typeGUID: GUID, guid: GUID, partUUID: String? = nil, name: String = "",
        kind: FilesystemInfo.Kind, kindName: String, uuid: String? = nil, label: String? = nil
    ) {
        self.number = number
        self.range = range
        self.typeGUID = typeGUID
        self.guid = guid
        self.partUUID = partUUID ?? guid.description
        self.name = name
        self.kind = kind
        self.kindName = kindName
        self.uuid = uuid
        self.label = label
    }

    /// From a volume of a disk with that table, as surveyed; `nil` where it is no partition.
    public init?(_ volume: VolumeSurvey, of table: PartitionTable) {
        guard let partition = volume.partition else { return nil }
        self.init(
            number: partition.number, range: partition.range, typeGUID: partition.typeGUID, guid: partition.guid,
            partUUID: table.partUUID(of: partition), name: partition.name, kind: volume.filesystem.kind,
            kindName: volume.filesystem.kindName,
            uuid: volume.filesystem.uuid, label: volume.filesystem.label)
    }

    /// Whether it is one of the FATs.
    public var isFAT: Bool { [.fat12, .fat16, .fat32].contains(kind) }
    /// Whether it is one of ext2, ext3, ext4.
    public var isExt: Bool { [.ext2, .ext3, .ext4].contains(kind) }
    /// Whether it is the EFI system partition.
    public var isESP: Bool { typeGUID.description == PartitionType.efiSystem }
    /// Whether it is a BIOS boot partition.
    public var isBIOSBoot: Bool { typeGUID.description == PartitionType.biosBoot }
    /// Whether an installed Linux system could have its root there.
    public var mayHoldSystem: Bool { isExt || ["xfs", "btrfs", "f2fs", "jfs"].contains(kindName) }

    /// Whether fstab's third field may mean what is here.
    func matches(fstabType type: String) -> Bool {
        switch type {
        case "auto": kind != .unknown
        case "vfat", "msdos", "fat": isFAT
        case "ext2", "ext3", "ext4": isExt
        default: type == kindName
        }
    }
}
