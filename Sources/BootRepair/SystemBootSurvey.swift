// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import SystemAccess

/// The observed boot state of a disk: its own bytes, the system installed on it, and the running machine.
package struct SystemBootSurvey: Codable, Equatable, Sendable {
    /// The way the disk's partitions can be accessed.
    package enum Access: String, Codable, Sendable {
        /// By partition nodes: the installed system's tools find the disk behind them.
        case partitionNodes
        /// Only by loop devices: files can be changed, but tools do not recognize them as parts of a disk.
        case loopDevices
        /// Not at all.
        case none
    }

    /// The identity of the disk.
    package var disk: DiskIdentity
    /// Its length in bytes.
    package var byteCount: UInt64
    /// The addressing unit, in bytes.
    package var sectorSize: Int
    /// Its partition table.
    package var tableKind: PartitionTable.Kind
    /// The GUID of its table.
    package var diskGUID: GUID?
    /// The disk signature of its MBR.
    package var diskSignature: UInt32?
    /// The start of its first partition, in bytes: an extended one counts too, which begins with a boot record.
    package var firstPartitionOffset: UInt64?
    /// Its partitions.
    package var volumes: [BootVolume]
    /// The firmware of the running machine.
    package var firmware: Firmware
    /// The access to its partitions.
    package var access: Access
    /// The reason for limited access, as a sentence part.
    package var accessProblem: String?
    /// The number of the partition with the image of a hibernated system; `nil` if there is none.
    package var hibernated: Int?
    /// Whether the running kernel mounts FAT.
    package var kernelMountsFAT: Bool
    /// Its EFI system partition.
    package var esp: ESPSurvey?
    /// The system installed on it.
    package var system: InstalledSystem?
    /// LUKS volumes that the TPM of one machine opens.
    package var sealedVolumes: [SealedVolume]
    /// Why no system could be read, or that there are several.
    package var systemFindings: [Finding]
    /// The firmware's boot entries; `nil` if they must not be changed.
    package var nvram: NVRAMSurvey?
    /// What the loaders' surveys saw.
    package var findings: BootFindings

    /// Describes how a disk boots.
    package init(
        disk: DiskIdentity, byteCount: UInt64, sectorSize: Int = 512, tableKind: PartitionTable.Kind = .gpt,
        diskGUID: GUID? = nil, diskSignature: UInt32? = nil, firstPartitionOffset: UInt64? = nil,
        volumes: [BootVolume] = [], firmware: Firmware,
        access: Access, accessProblem: String? = nil,
        kernelMountsFAT: Bool = true, esp: ESPSurvey? = nil, system: InstalledSystem? = nil,
        systemFindings: [Finding] = [], sealedVolumes: [SealedVolume] = [], nvram: NVRAMSurvey? = nil,
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
        self.systemFindings = systemFindings
        self.sealedVolumes = sealedVolumes
        self.nvram = nvram
        self.findings = findings
    }

    /// Whether it has a supported partition table.
    package var hasTable: Bool { tableKind == .gpt || tableKind == .mbr }

    /// Why no installed system, or not all of one, was read, as a sentence; `nil` if nothing is to be said.
    package var systemProblem: String? {
        systemFindings.isEmpty ? nil : systemFindings.map(\.sentence).joined(separator: "; ")
    }

    /// A partition by its number.
    package func volume(_ number: Int) -> BootVolume? { volumes.first { $0.number == number } }

    /// The volumes, with the names that crypttab gives to LUKS volumes: the hook of initramfs-tools looks there for the
    /// mapping that root is on.
    func volumesNamedByCrypttab() -> [BootVolume] {
        let mappings = findings[SystemReferences()]?.mappings ?? []
        return volumes.map { volume in
            guard var inside = volume.inside else { return volume }
            for (index, container) in inside.containers.enumerated() {
                guard case .luks(let uuid, let cipher, _) = container else { continue }
                let holder = index == 0 ? self.volume(inside.partition) : nil
                let mapping = mappings.first { mapping in
                    let reference = BootReference(Substring(mapping.device))
                    if case .filesystem(let named) = reference, named == uuid?.lowercased() { return true }
                    return holder.map(reference.names) == true
                }
                inside.containers[index] = .luks(uuid: uuid, cipher: cipher, mapping: mapping?.name)
            }
            var named = volume
            named.inside = inside
            return named
        }
    }
}
