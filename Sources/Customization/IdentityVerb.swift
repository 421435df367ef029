// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import LinuxSystem
import SystemPackage

/// One change of a system's identity. Paths are inside the system.
package enum IdentityVerb: Equatable, Sendable {
    /// A file's new contents.
    case writeFile(FileContents)
    /// Files and links that are removed; missing ones are no error.
    case removeFiles([String])
    /// SSH host keys are replaced by new ones, made by the system's own `ssh-keygen`. If that fails, the old ones stay.
    case renewSSHKeys([String])
    /// A program of the system, confined.
    case runTool(ToolRun)
    /// Old identifiers in a file become those of the volumes that were changed.
    case replaceIdentifiers(path: String)
    /// A volume gets a new identifier, while nothing is mounted.
    case changeVolume(VolumeChange)
    /// A group of LVM and its physical volume get new ids.
    case renewGroup(name: String, partition: Int)

    /// New contents of a file.
    package struct FileContents: Equatable, Sendable {
        package var path: String
        /// The expected old contents; `nil` if there is no file. Other contents stay.
        package var from: [UInt8]?
        package var to: [UInt8]
        /// The permissions of a new file, and of an old one if they are forced.
        package var permissions: FilePermissions?

        package init(_ path: String, from: [UInt8]?, to: [UInt8], permissions: FilePermissions? = nil) {
            self.path = path
            self.from = from
            self.to = to
            self.permissions = permissions
        }
    }

    /// Whether it works on volumes that are not mounted.
    var isOfVolumes: Bool {
        switch self {
        case .changeVolume, .renewGroup: true
        default: false
        }
    }

    /// Whether it runs programs of the installed system.
    var needsPrograms: Bool {
        switch self {
        case .renewSSHKeys, .runTool: true
        default: false
        }
    }
}
