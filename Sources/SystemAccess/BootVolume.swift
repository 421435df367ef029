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

    /// A container on a partition, which must be opened for a volume inside.
    package enum Container: Codable, Equatable, Sendable {
        /// LUKS. `cipher` as dm-crypt takes it: `aes-xts-plain64`; `nil` if it is unknown. `mapping` is the name by
        /// which the installed system opens it; `nil` if it is opened by any name.
        case luks(uuid: String?, cipher: String? = nil, mapping: String? = nil)
        /// A member of RAID 1, which holds the whole array. `contents` is the array in the member, in bytes; `members`
        /// are the numbers of all partitions of this disk that are its members.
        case mirror(uuid: String?, contents: ByteRange, members: [Int])
    }

    /// The place of a volume inside of containers.
    package struct Inside: Codable, Equatable, Sendable {
        /// The number of the partition that holds the outermost container.
        package var partition: Int
        /// From the outermost on. A volume group is not among them.
        package var containers: [Container]

        package init(partition: Int, containers: [Container]) {
            self.partition = partition
            self.containers = containers
        }
    }

    /// Its number in the table, from 1; a logical volume gets an artificial one, above those of all partitions.
    package var number: Int
    /// Its range on the disk, in bytes; for a logical volume, the partition that holds its group.
    package var range: ByteRange
    /// Its name in its group, if it is a logical volume.
    package var logicalVolume: LogicalVolume?
    /// The containers that it, or its volume group, is in; `nil` if it is on a partition itself.
    package var inside: Inside?
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
        logicalVolume: LogicalVolume? = nil, inside: Inside? = nil
    ) {
        self.inside = inside
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

    /// The partitions of a disk, and the volumes in containers that are completely on it and were opened: the logical
    /// volumes of groups, the contents of LUKS and of RAID 1.
    package static func all(of survey: DiskSurvey) -> [BootVolume] {
        let partitions = survey.volumes.filter { $0.partition != nil }
        let volumes = partitions.compactMap { BootVolume($0, of: survey.table) }
        var inner = InnerVolumes(
            number: survey.table.partitions.map(\.number).max() ?? 0,
            mirrors: Dictionary(
                grouping: volumes.filter { $0.kind == .raid && $0.uuid != nil }, by: { $0.uuid ?? "" }
            ).mapValues { $0.map(\.number) })
        for (volume, surveyed) in zip(volumes, partitions) { inner.add(surveyed.filesystem, of: volume, []) }
        return volumes + inner.found
    }

    /// Collects the volumes inside of containers.
    private struct InnerVolumes {
        var number: Int
        /// The members of each array, by its UUID.
        let mirrors: [String: [Int]]
        var found: [BootVolume] = []
        private var usedMirrors: Set<String> = []

        init(number: Int, mirrors: [String: [Int]]) {
            self.number = number
            self.mirrors = mirrors
        }

        mutating func add(_ contents: FilesystemInfo, of partition: BootVolume, _ containers: [Container]) {
            for inner in contents.inner ?? [] {
                var around = containers
                switch contents.kind {
                case .lvm:
                    if inner.filesystem.kind != .unknown, BootVolume.isPlainName(inner.name) {
                        add(inner, of: partition, containers, named: inner.name)
                    }
                    continue
                case .luks: around.append(.luks(uuid: contents.uuid, cipher: contents.features.dropFirst().first))
                case .raid:
                    // All members hold the same volumes.
                    guard containers.isEmpty, let place = inner.places?.first, inner.places?.count == 1,
                        usedMirrors.insert(contents.uuid ?? "").inserted
                    else { continue }
                    let members = contents.uuid.flatMap { mirrors[$0] } ?? [partition.number]
                    around.append(.mirror(uuid: contents.uuid, contents: place, members: members))
                default: continue
                }
                if inner.filesystem.inner != nil {
                    add(inner.filesystem, of: partition, around)
                } else if inner.filesystem.kind != .unknown {
                    add(inner, of: partition, around, named: nil)
                }
            }
        }

        private mutating func add(
            _ inner: FilesystemInfo.InnerVolume, of partition: BootVolume, _ containers: [Container],
            named name: String?
        ) {
            number += 1
            found.append(
                BootVolume(
                    number: number, range: partition.range, typeGUID: .zero, guid: .zero, partUUID: "",
                    kind: inner.filesystem.kind, kindName: inner.filesystem.kindName, uuid: inner.filesystem.uuid,
                    label: inner.filesystem.label,
                    logicalVolume: name.map { LogicalVolume(name: $0, partition: partition.number) },
                    inside: containers.isEmpty ? nil : Inside(partition: partition.number, containers: containers)))
        }
    }

    /// Whether it is `group/name` as LVM allows them.
    private static func isPlainName(_ name: String) -> Bool {
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        return parts.count == 2 && parts.allSatisfy { ConfinedLVM.isName($0) }
    }

    /// Its name for the user.
    package var place: String {
        if let logicalVolume { return "logical volume \(logicalVolume.name)" }
        guard let inside else { return "partition \(number)" }
        let kind = if case .luks? = inside.containers.last { "LUKS" } else { "the array" }
        return "\(kind) on partition \(inside.partition)"
    }
    /// The number of the partition that holds it.
    package var partitionNumber: Int { inside?.partition ?? logicalVolume?.partition ?? number }
    /// Whether it is a partition of the table.
    package var isPartition: Bool { inside == nil && logicalVolume == nil }
    /// Whether a path below /dev may be its own: a mapping of LUKS has any name that crypttab gives it, and an array
    /// any that mdadm.conf gives it or the kernel.
    package func mayBeNamed(_ path: String) -> Bool {
        guard logicalVolume == nil else { return false }
        return switch inside?.containers.last {
        case .luks: path.hasPrefix("/dev/mapper/")
        case .mirror: path.hasPrefix("/dev/md")
        case nil: false
        }
    }
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
