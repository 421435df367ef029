// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// A volume whose files are used, mounted as long as this lives. No devices, programs or set-user-id files count on it.
package struct MountedVolume: ~Copyable {
    /// Its root.
    package let folder: FilePath
    private let mount: Mount

    /// How the kernel mounts what libblkid calls so; `nil` where it is not mounted here, or not for writing.
    package static func manner(of type: String, writable: Bool) -> FilesystemTraits.MountManner? {
        FilesystemTraits.named(type)?.mount.flatMap { !writable || $0.isWritable ? $0 : nil }
    }

    /// Mounts what is on a node on a folder, which is made where it is missing.
    package init(
        _ node: String, _ manner: FilesystemTraits.MountManner, on folder: FilePath, writable: Bool
    ) throws(SystemCallError) {
        let arguments = MountArguments(manner, .untrusted, readOnly: !writable)
        try Files.makeFolders(folder)
        mount = try Mount(
            node, on: folder, type: arguments.type, options: arguments.options, data: arguments.data)
        self.folder = folder
    }

    /// Takes away what a process that crashed left mounted: nothing could be mounted in its place otherwise.
    package static func unmountLeftovers(below folder: FilePath) {
        for entry in MountEntry.current().reversed() where FilePath(entry.mountPoint).starts(with: folder) {
            try? Mount.unmount(FilePath(entry.mountPoint), lazily: true)
        }
    }

    /// Unmounts it, and says where that failed: until then not everything is on the disk.
    package consuming func unmount() throws(SystemCallError) { try mount.unmount() }

    /// The same, and waits no longer than so many seconds for a disk that may not answer.
    package consuming func unmount(withinSeconds seconds: Double) throws(SystemCallError) {
        try mount.unmount(withinSeconds: seconds)
    }

    /// The volume, as a folder that no link leads out of.
    package func anchored() throws(SystemCallError) -> AnchoredFolder { try AnchoredFolder(folder) }
}
