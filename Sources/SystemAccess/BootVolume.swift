// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem

/// The boot-related data of a partition, or of a logical volume on one.
package struct BootVolume: Codable, Equatable, Sendable {
    /// A volume of LVM.
    package struct LogicalVolume: Codable, Equatable, Sendable {
        /// `group/name`.
        package var name: String
        /// The number of the partition that holds its group.
        package var partition: Int

        package init(name: String, partition: Int) {
            self.name = name
            self.partition = partition
        }
    }

    /// Its number in the table, from 1; a logical volume gets an artificial one, above those of all partitions.
    package var number: Int
    /// Its range on the disk, in bytes; for a logical volume, the partition that holds its group.
    package var range: ByteRange
    /// Its name in its group, if it is a logical volume.
    package var logicalVolume: LogicalVolume?
    /// The partition type.
    package var typeGUID: GUID
    /// The unique GUID of this partition (PARTUUID).
    package var guid: GUID
    /// The value for PARTUUID=.
    package var partUUID: String
    /// Its name (PARTLABEL).
    package var name: String
    /// The kind of its contents.
    package var kind: FilesystemInfo.Kind
    /// The libblkid name of its contents: `ext4`, `vfat`, …
    package var kindName: String
    /// The filesystem's UUID or volume id.
    package var uuid: String?
    /// The filesystem's label.
    package var label: String?

    package init(
        number: Int, range: ByteRange, typeGUID: GUID, guid: GUID, partUUID: String? = nil, name: String = "",
        kind: FilesystemInfo.Kind, kindName: String, uuid: String? = nil, label: String? = nil,
        logicalVolume: LogicalVolume? = nil
    ) {
        self.number = number
        self.range = range
        self.logicalVolume = logicalVolume
        self.typeGUID = typeGUID
        self.guid = guid
        self.partUUID = partUUID ?? guid.description
        self.name = name
        self.kind = kind
        self.kindName = kindName
        self.uuid = uuid
        self.label = label
    }

    /// From a surveyed volume of a disk with that table; `nil` if it is not a partition.
    package init?(_ volume: VolumeSurvey, of table: PartitionTable) {
        guard let partition = volume.partition else { return nil }
        self.init(
            number: partition.number, range: partition.range, typeGUID: partition.typeGUID, guid: partition.guid,
            partUUID: table.partUUID(of: partition), name: partition.name, kind: volume.filesystem.kind,
            kindName: volume.filesystem.kindName,
            uuid: volume.filesystem.uuid, label: volume.filesystem.label)
    }

    /// The partitions of a disk, and the logical volumes of groups that are completely on it.
    package static func all(of survey: DiskSurvey) -> [BootVolume] {
        var volumes = survey.volumes.compactMap { BootVolume($0, of: survey.table) }
        let partitions = volumes.count
        var number = survey.table.partitions.map(\.number).max() ?? 0
        for (volume, surveyed) in zip(volumes[..<partitions], survey.volumes.filter { $0.partition != nil })
        where volume.kind == .lvm {
            for inner in surveyed.filesystem.inner ?? []
            where inner.filesystem.kind != .unknown && isPlainName(inner.name) {
                number += 1
                volumes.append(
                    BootVolume(
                        number: number, range: volume.range, typeGUID: .zero, guid: .zero, partUUID: "",
                        kind: inner.filesystem.kind, kindName: inner.filesystem.kindName,
                        uuid: inner.filesystem.uuid, label: inner.filesystem.label,
                        logicalVolume: LogicalVolume(name: inner.name, partition: volume.number)))
            }
        }
        return volumes
    }

    /// Whether it is `group/name` as LVM allows them.
    private static func isPlainName(_ name: String) -> Bool {
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        return parts.count == 2 && parts.allSatisfy { ConfinedLVM.isName($0) }
    }

    /// Its name for the user.
    package var place: String { logicalVolume.map { "logical volume \($0.name)" } ?? "partition \(number)" }
    /// The paths of a logical volume below /dev; empty for a partition.
    package var mapperPaths: [String] {
        guard let parts = logicalVolume?.name.split(separator: "/"), parts.count == 2 else { return [] }
        let (group, volume) = (String(parts[0]), String(parts[1]))
        return ["/dev/mapper/\(MappedDevice.name(group: group, volume: volume))", "/dev/\(group)/\(volume)"]
    }

    /// Whether it holds FAT12, FAT16 or FAT32.
    package var isFAT: Bool { [.fat12, .fat16, .fat32].contains(kind) }
    /// Whether it holds ext2, ext3 or ext4.
    package var isExt: Bool { [.ext2, .ext3, .ext4].contains(kind) }
    package var isESP: Bool { typeGUID.description == PartitionType.efiSystem }
    package var isBIOSBoot: Bool { typeGUID.description == PartitionType.biosBoot }
    package var traits: FilesystemTraits { FilesystemTraits.of(kind, name: kindName) }
    /// Whether an installed Linux system could have its root there.
    package var mayHoldSystem: Bool { traits.mayHoldSystem }

    /// Whether the third field of an fstab line matches its contents.
    package func matches(fstabType type: String) -> Bool {
        type == "auto" ? kind != .unknown : type == kindName || traits.fstabTypes.contains(type)
    }
}
