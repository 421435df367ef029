// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ByteParsing
import DiskModel
import LinuxSystem
import SystemAccess

/// The observed identity of the Linux system on a disk. Paths are inside the system, with its EFI system partition at
/// `espFolder`.
package struct IdentitySurvey: Sendable {
    /// A file with its contents.
    package struct Text: Equatable, Sendable {
        package var path: String
        package var bytes: [UInt8]

        package init(_ path: String, _ bytes: [UInt8]) {
            self.path = path
            self.bytes = bytes
        }
    }

    /// A place that names network cards, which the user must check.
    package struct CardName: Codable, Equatable, Sendable {
        package var path: String
        /// A MAC address or an interface's name.
        package var name: String
    }

    /// A program on the EFI system partition that names volumes.
    package struct Program: Equatable, Sendable {
        package var path: String
        /// The volumes whose identifier is in it.
        package var volumes: [Int]
        /// Whether it holds a kernel.
        package var isKernel: Bool
        /// Whether it finds its files in a group of LVM, by the group's id.
        package var namesGroup = false

        package init(path: String, volumes: [Int], isKernel: Bool, namesGroup: Bool = false) {
            self.path = path
            self.volumes = volumes
            self.isKernel = isKernel
            self.namesGroup = namesGroup
        }
    }

    package var disk: DiskIdentity
    package var diskGUID: GUID?
    package var diskSignature: UInt32?
    package var volumes: [BootVolume]
    /// The reasons for which volumes must keep their identifiers, as sentence parts, by their numbers.
    package var obstacles: [Int: String] = [:]
    /// The groups of LVM that lie on this disk alone, with the partitions of their physical volumes.
    package var groups: [String: Set<Int>] = [:]
    /// Whether block 0 starts GRUB.
    package var hasBIOSGrub = false
    package var system: InstalledSystem?
    package var systemProblem: String?
    package var mounts = SystemMounts()
    package var mountProblems: [SystemMounts.Problem] = []
    /// Whether a place with loaders and their configuration could not be mounted.
    package var hidesReferences: Bool {
        mountProblems.contains { $0.path == "/etc" || $0.path.hasPrefix("/boot") || $0.path == "/efi" }
            || esp != nil && espFolder == nil
    }
    package var esp: Int?
    package var espFolder: String? { mounts.esp }
    /// Existing files that matter, with their kinds; links are not followed.
    package var kinds: [String: AnchoredFolder.EntryKind] = [:]
    /// Files that may hold identifiers or names.
    package var texts: [Text] = []
    /// Such files that cannot be read whole, with the reason.
    package var unread: [SystemMounts.Problem] = []
    package var programs: [Program] = []
    /// The names of the system's programs that renew something.
    package var tools: Set<String> = []
    /// Why the system's programs cannot run; `nil` if they can.
    package var obstacleToTools: String?
    /// Why the system's programs do not recognize its disk here; `nil` if they do.
    package var obstacleToDisk: String?
    /// Programs of this machine.
    package var ownTools: Set<String> = []
    package var cardNames: [CardName] = []
    /// The pairs of an interrupted change of identifiers.
    package var unfinished: [IdentifierChange] = []
    /// Fresh random identifiers for the volumes, so that the plan is pure.
    package var fresh: [Int: GUID] = [:]
    /// For names of storage initiators.
    package var freshNode: GUID

    package init(
        disk: DiskIdentity, volumes: [BootVolume], system: InstalledSystem? = nil, freshNode: GUID = .random()
    ) {
        self.disk = disk
        self.volumes = volumes
        self.system = system
        self.freshNode = freshNode
        for volume in volumes { fresh[volume.number] = .random() }
    }

    /// The bytes of a surveyed file.
    package func bytes(_ path: String) -> [UInt8]? { texts.first { $0.path == path }?.bytes }

    /// The text of a surveyed file; `nil` also if it is not UTF-8: rewritten as text it would change.
    package func text(_ path: String) -> String? {
        guard let bytes = bytes(path) else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        return Array(text.utf8) == bytes ? text : nil
    }
}
