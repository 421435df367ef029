// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import SystemAccess

/// How a disk boots, as observed: its own bytes, the system installed on it, and the machine that we run on.
package struct SystemBootSurvey: Codable, Equatable, Sendable {
    /// How the kernel lets us reach the disk's partitions.
    package enum Access: String, Codable, Sendable {
        /// By nodes of their own: the installed system's tools find the disk behind them.
        case partitionNodes
        /// By loop devices only: files can be changed, but no tool sees that they are parts of a disk.
        case loopDevices
        /// Not at all.
        case none
    }

    /// Which disk.
    package var disk: DiskIdentity
    /// Its length in bytes.
    package var byteCount: UInt64
    /// The unit that it addresses, in bytes.
    package var sectorSize: Int
    /// Its partition table.
    package var tableKind: PartitionTable.Kind
    /// The GUID of its table.
    package var diskGUID: GUID?
    /// The disk signature of its MBR.
    package var diskSignature: UInt32?
    /// Where its first partition starts, in bytes: an extended one counts too, which begins with a boot record.
    package var firstPartitionOffset: UInt64?
    /// Its partitions.
    package var volumes: [BootVolume]
    /// The firmware that we run on.
    package var firmware: Firmware
    /// How its partitions can be reached.
    package var access: Access
    /// Why not better, as a sentence part.
    package var accessProblem: String?
    /// Whether the running kernel mounts FAT.
    package var kernelMountsFAT: Bool
    /// Its EFI system partition.
    package var esp: ESPSurvey?
    /// The system installed on it.
    package var system: InstalledSystem?
    /// Why no system could be looked into, or that several are there, as a sentence.
    package var systemProblem: String?
    /// The firmware's boot entries; `nil` where they are not ours to touch.
    package var nvram: NVRAMSurvey?
    /// What the loaders' own surveys came to.
    package var findings: BootFindings

    /// Describes how a disk boots.
    package init(
        disk: DiskIdentity, byteCount: UInt64, sectorSize: Int = 512, tableKind: PartitionTable.Kind = .gpt,
        diskGUID: GUID? = nil, diskSignature: UInt32? = nil, firstPartitionOffset: UInt64? = nil,
        volumes: [BootVolume] = [], firmware: Firmware,
        access: Access, accessProblem: String? = nil,
        kernelMountsFAT: Bool = true, esp: ESPSurvey? = nil, system: InstalledSystem? = nil,
        systemProblem: String? = nil, nvram: NVRAMSurvey? = nil,
        findings: BootFindings = BootFindings()
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
        self.esp = esp
        self.system = system
        self.systemProblem = systemProblem
        self.nvram = nvram
        self.findings = findings
    }

    /// Whether it has a partition table that is understood.
    package var hasTable: Bool { tableKind == .gpt || tableKind == .mbr }

    /// A partition by its number.
    package func volume(_ number: Int) -> BootVolume? { volumes.first { $0.number == number } }
}
