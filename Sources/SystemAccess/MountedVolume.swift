// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// A mounted volume; the end of this value unmounts it. Devices, programs and set-user-id files on it are disabled.
package struct MountedVolume: ~Copyable {
    /// The mount point.
    package let folder: FilePath
    private let mount: Mount

    /// The mount arguments for a libblkid type; `nil` if Reforge does not mount that type, or not writable.
    package static func manner(of type: String, writable: Bool) -> FilesystemTraits.MountManner? {
        FilesystemTraits.named(type)?.mount.flatMap { !writable || $0.isWritable ? $0 : nil }
    }

    /// Mounts a device node on a folder, which is created if missing.
    package init(
        _ node: String, _ manner: FilesystemTraits.MountManner, on folder: FilePath, writable: Bool
    ) throws(SystemCallError) {
        let arguments = MountArguments(manner, .untrusted, readOnly: !writable)
        try Files.makeFolders(folder)
        mount = try Mount(
            node, on: folder, type: arguments.type, options: arguments.options, data: arguments.data)
        self.folder = folder
    }

    /// Unmounts everything that a crashed process left mounted below `folder`, so that its mount points are free again.
    package static func unmountLeftovers(below folder: FilePath) {
        for entry in MountEntry.current().reversed() where FilePath(entry.mountPoint).starts(with: folder) {
            try? Mount.unmount(FilePath(entry.mountPoint), lazily: true)
        }
    }

    /// Unmounts the volume. After a failure, data may not be on the disk yet.
    package consuming func unmount() throws(SystemCallError) { try mount.unmount() }

    /// Unmounts the volume, with a time limit for a disk that may not answer.
    package consuming func unmount(withinSeconds seconds: Double) throws(SystemCallError) {
        try mount.unmount(withinSeconds: seconds)
    }

    /// The mount point as an anchored folder: no link leads out of it.
    package func anchored() throws(SystemCallError) -> AnchoredFolder { try AnchoredFolder(folder) }
}
