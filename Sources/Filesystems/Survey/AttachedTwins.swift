// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// Other block devices of this machine that hold a copy of the same filesystem or physical volume.
///
/// The kernel (Btrfs, XFS), LVM and whatever mounts by UUID tell copies apart by nothing else: what is resized beside a twin
/// may be the twin.
package enum AttachedTwins {
    /// The nodes in `/dev` that libblkid takes for the same kind with the same UUID.
    /// - Parameters:
    ///   - filesystem: what to look for; without a UUID nothing is found.
    ///   - disk: the kernel's name of a disk that is not looked at, nor what lies on it; `nil` for a file.
    package static func nodes(
        of filesystem: FilesystemInfo, besides disk: String?, directory: DiskDirectory = DiskDirectory()
    ) -> [String] {
        guard let uuid = filesystem.uuid, !uuid.isEmpty else { return [] }
        return directory.nodeNames(besides: disk).compactMap { name in
            let node = "/dev/\(name)"
            // Of an empty drive, and of what is gone by now, nothing can be mounted either.
            guard let device = try? BlockDevice(opening: FilePath(node)) else { return nil }
            let opinion = SecondOpinion(descriptor: device.fileDescriptor.rawValue)
            guard case .found(filesystem.kindName, let other?, _) = opinion.finding(byteCount: device.byteCount),
                other.lowercased() == uuid.lowercased()
            else { return nil }
            return node
        }
    }
}
