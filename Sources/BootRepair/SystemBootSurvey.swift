// SPDX-License-Identifier: GPL-3.0-or-later
public import ByteParsing
public import DiskModel

/// How a disk boots, as observed: its own bytes, the system installed on it, and the machine that we run on.
public struct SystemBootSurvey: Codable, Equatable, Sendable {
    /// How the kernel lets us reach the disk's partitions.
    public enum Access: String, Codable, Sendable {
        /// By nodes of their own: the installed system's tools find the disk behind them.
        case partitionNodes
        /// By loop devices only: files can be changed, but no tool sees that they are parts of a disk.
        case loopDevices
        /// Not at all.
        case none
    }

    /// Which disk.
    public var disk: DiskIdentity
    /// Its length in bytes.
    public var byteCount: UInt64
    /// The unit that it addresses, in bytes.
    public var sectorSize: Int
    /// Its partition table.
    public var tableKind: PartitionTable.Kind
    /// The GUID of its table.
    public var diskGUID: GUID?
    /// The disk signature of its MBR.
    public var diskSignature: UInt32?
    /// Where its first partition starts, in bytes: an extended one counts too, which begins with a boot record.
    public var firstPartitionOffset: UInt64?
    /// Its partitions.
    public var volumes: [BootVolume]
    /// The firmware that we run on.
    public var firmware: Firmware
    /// How its partitions can be reached.
    public var access: Access
    /// Why not better, as a sentence part.
    public var accessProblem: String?
    /// Whether the running kernel mounts FAT.
    public var kernelMountsFAT: Bool
    /// How it boots by BIOS.
    public var bios: BIOSBootSurvey
    /// Its EFI system partition.
    public var esp: ESPSurvey?
    /// The system installed on it.
    public var system: InstalledSystem?
    /// Why no system could be looked into, or that several are there, as a sentence.
    public var systemProblem: String?
    /// The firmware's boot entries; `nil` where they are not ours to touch.
    public var nvram: NVRAMSurvey?
    /// Programs of the running system (or medium) that are there, of those that we may need.
    public var ownTools: [String]

    /// Describes how a disk boots.
    public init(
        disk: DiskIdentity, byteCount: UInt64, sectorSize: Int = 512, tableKind: PartitionTable.Kind = .gpt,
        diskGUID: GUID? = nil, diskSignature: UInt32? = nil, firstPartitionOffset: UInt64? = nil,
        volumes: [BootVolume] = [], firmware: Firmware,
        access: Access, accessProblem: String? = nil,
        kernelMountsFAT: Bool = true, bios: BIOSBootSurvey, esp: ESPSurvey? = nil, system: InstalledSystem? = nil,
        systemProblem: String? = nil, nvram: NVRAMSurvey? = nil, ownTools: [String] = []
    ) {
        self.disk = disk
        self.byteCount = byteCount
        self.sectorSize = sectorSize
        self.tableKind = tableKind
        self.diskGUID = diskGUID
        self.diskSignature = diskSignature
        self.firstPartitionOffset = firstPartitionOffset
        self.volumes = volumes
        self.firmware = firmware
        self.access = access
        self.accessProblem = accessProblem
        self.kernelMountsFAT = kernelMountsFAT
        self.bios = bios
        self.esp = esp
        self.system = system
        self.systemProblem = systemProblem
        self.nvram = nvram
        self.ownTools = ownTools
    }

    /// Whether it has a partition table that is understood.
    public var hasTable: Bool { tableKind == .gpt || tableKind == .mbr }

    /// The room for core.img outside of any partition, in sectors of 512 bytes: behind an MBR, up to the first partition.
    /// Empty on a GPT, whose entries are there.
    public var coreGap: Range<UInt64> {
        guard tableKind == .mbr, let first = firstPartitionOffset, first >= 1024 else { return 1..<1 }
        return 1..<first / 512
    }

    /// A partition by its number.
    public func volume(_ number: Int) -> BootVolume? { volumes.first { $0.number == number } }
}
