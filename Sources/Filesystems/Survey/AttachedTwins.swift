// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// Other block devices of this machine with a copy of the same filesystem or physical volume.
///
/// The kernel (Btrfs, XFS), LVM and programs that mount by UUID cannot distinguish copies: a resize beside a
/// twin may change the twin.
package enum AttachedTwins {
    /// The nodes in `/dev` with the same kind and UUID according to libblkid.
    /// - Parameters:
    ///   - filesystem: the filesystem to search for; without a UUID nothing is found.
    ///   - disk: the kernel's name of a disk to skip, with everything on it; `nil` for a file.
    package static func nodes(
        of filesystem: FilesystemInfo, besides disk: String?, directory: DiskDirectory = DiskDirectory()
    ) -> [String] {
        guard let uuid = filesystem.uuid, !uuid.isEmpty else { return [] }
        return directory.nodeNames(besides: disk).compactMap { name in
            let node = "/dev/\(name)"
            // An empty drive, or a device that is gone by now, cannot be mounted either.
            guard let device = try? BlockDevice(opening: FilePath(node)) else { return nil }
            let opinion = SecondOpinion(descriptor: device.fileDescriptor.rawValue)
            guard case .found(filesystem.kindName, let other?, _) = opinion.finding(byteCount: device.byteCount),
                other.lowercased() == uuid.lowercased()
            else { return nil }
            return node
        }
    }
}
