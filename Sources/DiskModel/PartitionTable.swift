// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// A partition table as read.
package struct PartitionTable: Codable, Equatable, Sendable {
    /// The kinds of table.
    package enum Kind: String, Codable, Sendable {
        /// GUID partition table (UEFI 2.10 §5).
        case gpt
        /// Master boot record with primary and logical partitions.
        case mbr
        /// No table: a filesystem on the bare disk, or nothing at all.
        case none
        /// An unsupported table: the disk is one raw region.
        case unknown
    }

    /// The state of the two copies of a GPT.
    package enum Condition: String, Codable, Sendable {
        /// Both copies agree.
        case intact
        /// The primary is damaged; the backup was used.
        case primaryDamaged
        /// The backup is damaged or not at the end of the disk; the primary was used.
        case backupDamaged
    }

    package var kind: Kind
    /// The apparent kind of an unknown table ("MBR", …).
    package var unknownKindName: String?
    /// The GPT's disk GUID.
    package var diskGUID: GUID?
    /// The MBR's disk signature; 0 if it has none.
    package var diskSignature: UInt32?
    /// The positions of the extended boot records of an MBR, in the order of their chain, in bytes of the disk.
    package var bootRecords: [UInt64]?
    package var condition: Condition
    /// The bytes that partitions may use (GPT: first to last usable LBA).
    package var usable: ByteRange
    /// The number of entries for which the table has room.
    package var entryCount: Int
    /// The partitions, in the order of their numbers.
    package var partitions: [Partition]

    package init(
        kind: Kind, unknownKindName: String? = nil, diskGUID: GUID? = nil, diskSignature: UInt32? = nil,
        bootRecords: [UInt64]? = nil, condition: Condition = .intact, usable: ByteRange, entryCount: Int = 0,
        partitions: [Partition] = []
    ) {
        self.kind = kind
        self.unknownKindName = unknownKindName
        self.diskGUID = diskGUID
        self.diskSignature = diskSignature
        self.bootRecords = bootRecords
        self.condition = condition
        self.usable = usable
        self.entryCount = entryCount
        self.partitions = partitions
    }
}

extension PartitionTable {
    /// The PARTUUID of a partition: its GUID; in an MBR the disk signature and the number (kernel,
    /// `block/partitions/msdos.c`, set_info).
    package func partUUID(of partition: Partition) -> String {
        guard kind == .mbr else { return partition.guid.description }
        func digits(_ value: UInt64, _ count: Int) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: max(0, count - text.count)) + text
        }
        return "\(digits(UInt64(diskSignature ?? 0), 8))-\(digits(UInt64(clamping: partition.number), 2))"
    }

    /// The space for the table's backup at the end of a disk, in bytes: the space that it has on the captured disk. If
    /// the backup is not at the end (a small image written to a large disk): the size of its entries (128 bytes each)
    /// and header.
    /// - Parameter sectorSize: the sector size of the target disk. If it differs, the backup has its minimum size.
    package func backupByteCount(on geometry: DiskGeometry, forSectorsOf sectorSize: Int? = nil) -> UInt64 {
        guard kind != .mbr else { return 0 }
        if let sectorSize, sectorSize != geometry.logicalSectorSize {
            let sector = UInt64(max(512, sectorSize))
            return entryByteCount(inSectorsOf: sector) + sector
        }
        let sector = UInt64(max(512, geometry.logicalSectorSize))
        let reserved = geometry.byteCount - min(usable.upperBound, geometry.byteCount)
        guard condition == .backupDamaged else { return reserved }
        return min(reserved, entryByteCount(inSectorsOf: sector) + sector)
    }

    /// The length of a GPT's entries (128 bytes each), rounded up to whole sectors, in bytes.
    func entryByteCount(inSectorsOf sector: UInt64) -> UInt64 {
        // A count beyond the format's 32 bits is invalid.
        let byteCount = UInt64(min(max(0, entryCount), Int(UInt32.max))) * 128
        return byteCount.roundedUp(toMultipleOf: sector) ?? byteCount
    }
}

/// One partition of a table.
package struct Partition: Codable, Equatable, Sendable {
    /// Its number in the table, from 1.
    package var number: Int
    /// Its range on the disk, in bytes.
    package var range: ByteRange
    /// Its purpose (UEFI 2.10 §5.3.3); for an MBR partition, the type equivalent to its type byte.
    package var typeGUID: GUID
    /// Its unique GUID (PARTUUID); zero in an MBR, which has none.
    package var guid: GUID
    /// Its name (PARTLABEL).
    package var name: String
    /// The attribute bits.
    package var attributes: UInt64
    /// The other fields of an MBR entry; `nil` in a GPT.
    package var mbr: MBREntry?

    /// The entry of an MBR or of an extended boot record.
    package struct MBREntry: Codable, Equatable, Sendable {
        /// The position of an entry.
        package enum Role: String, Codable, Sendable {
            /// In the MBR, numbers 1 to 4.
            case primary
            /// In the MBR: it contains the logical partitions, and is no volume.
            case extended
            /// In an extended boot record inside the extended partition, numbers from 5 on.
            case logical
        }
        package var role: Role
        /// The type byte.
        package var type: UInt8
        /// Whether it is marked as bootable.
        package var isActive: Bool
        /// The position of a logical partition's extended boot record, in bytes of the disk.
        package var recordOffset: UInt64?

        package init(role: Role, type: UInt8, isActive: Bool = false, recordOffset: UInt64? = nil) {
            self.role = role
            self.type = type
            self.isActive = isActive
            self.recordOffset = recordOffset
        }
    }

    /// Whether it is a volume: an extended partition only contains others.
    package var isVolume: Bool { mbr?.role != .extended }

    /// Its purpose, for display.
    package var typeName: String { mbr.map { MBRType.name(of: $0.type) } ?? PartitionType.name(of: typeGUID) }

    package init(
        number: Int, range: ByteRange, typeGUID: GUID, guid: GUID, name: String = "", attributes: UInt64 = 0,
        mbr: MBREntry? = nil
    ) {
        self.number = number
        self.range = range
        self.typeGUID = typeGUID
        self.guid = guid
        self.name = name
        self.attributes = attributes
        self.mbr = mbr
    }
}

/// Partition types that are relevant to planning and boot repair.
package enum PartitionType {
    /// EFI system partition (UEFI 2.10 table 5-7).
    package static let efiSystem = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
    /// BIOS boot partition: GRUB's core image.
    package static let biosBoot = "21686148-6449-6e6f-744e-656564454649"
    /// Microsoft reserved.
    package static let microsoftReserved = "e3c9e316-0b5c-4db8-817d-f92df00215ae"
    /// Microsoft basic data.
    package static let microsoftBasicData = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"
    /// Windows recovery environment.
    package static let windowsRecovery = "de94bba4-06d1-4d40-a16a-bfd50179d6ac"
    /// Linux filesystem data.
    package static let linuxFilesystem = "0fc63daf-8483-4772-8e79-3d69d8477de4"
    /// Linux swap.
    package static let linuxSwap = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"
    /// A physical volume of LVM.
    package static let linuxLVM = "e6d6d379-f507-44c2-a23c-238f2a3df928"
    /// A member of an md array.
    package static let linuxRAID = "a19d880f-05fc-4d3b-a006-743f0f84911e"
    /// Extended boot loader partition (/boot of the Boot Loader Specification).
    package static let extendedBoot = "bc13c2ff-59e6-4262-a352-b275fd6f7172"

    /// A short name for display; the GUID itself where the type is unknown.
    package static func name(of guid: GUID) -> String {
        switch guid.description {
        case efiSystem: "EFI system"
        case biosBoot: "BIOS boot"
        case microsoftReserved: "Microsoft reserved"
        case microsoftBasicData: "Basic data"
        case windowsRecovery: "Windows recovery"
        case linuxFilesystem: "Linux filesystem"
        case linuxSwap: "Linux swap"
        case extendedBoot: "Extended boot"
        case linuxLVM: "Linux LVM"
        case linuxRAID: "Linux RAID"
        case "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)"
        case "933ac7e1-2eb4-4f13-b844-0e14e2aef915": "Linux /home"
        default: guid.description
        }
    }
}
