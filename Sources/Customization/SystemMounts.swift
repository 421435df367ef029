// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import LinuxSystem
import SystemAccess
import SystemPackage

/// The mounts of an installed system on its disk: its root, what its fstab mounts from the same disk, and the EFI system
/// partition.
package struct SystemMounts: Equatable, Sendable {
    /// A filesystem that could not be mounted.
    package struct Problem: Codable, Equatable, Sendable {
        /// The folder inside the system.
        package var path: String
        /// As a sentence part.
        package var reason: String
    }

    /// In mount order, the root first.
    package var mounts: [BootRepairPlan.MountPoint]
    /// The folder at which the EFI system partition is.
    package var esp: String?

    /// Upper bound on mounts: an fstab may have any number of lines.
    private static let most = 32

    package init(mounts: [BootRepairPlan.MountPoint] = [], esp: String? = nil) {
        self.mounts = mounts
        self.esp = esp
    }

    /// - Parameter esp: the number of the EFI system partition.
    package init(of system: InstalledSystem, volumes: [BootVolume], esp: Int?) {
        var mounts = [
            BootRepairPlan.MountPoint(partition: system.rootPartition, path: "/", subvolume: system.rootSubvolume)
        ]
        for entry in system.fstab.sorted(by: { $0.mountPoint.utf8.count < $1.mountPoint.utf8.count }) {
            guard mounts.count < Self.most, let number = entry.partition, entry.mountPoint.hasPrefix("/"),
                entry.mountPoint != "/", !mounts.contains(where: { $0.path == entry.mountPoint }),
                !entry.options.contains(where: { $0 == "noauto" || $0.hasPrefix("subvolid=") }),
                number != system.rootPartition || entry.subvolume != nil,
                let volume = volumes.first(where: { $0.number == number }), volume.traits.mount?.isWritable == true
            else { continue }
            mounts.append(.init(partition: number, path: entry.mountPoint, subvolume: entry.subvolume))
        }
        self.mounts = mounts
        self.esp = esp.flatMap { number in mounts.first { $0.partition == number }?.path }
    }

    /// Mounts them.
    /// - Parameters:
    ///   - esp: the EFI system partition, if the system's fstab does not mount it: it gets a folder that exists and is
    ///     empty.
    ///   - keys: the files with the keys of LUKS volumes.
    /// - Returns: the tree, and what could not be mounted. An inaccessible root is an error.
    package mutating func open(
        of volumes: [BootVolume], disk: BlockDevice, readOnly: Bool, esp number: Int? = nil, keys: [FilePath] = []
    ) throws(SystemCallError) -> (tree: SystemTree, problems: [Problem]) {
        guard let root = mounts.first, let volume = volumes.first(where: { $0.number == root.partition }) else {
            throw SystemCallError("open", "the installed system", .noSuchFileOrDirectory)
        }
        let tree = try SystemTree(volume, subvolume: root.subvolume, of: disk, readOnly: readOnly, keys: keys)
        var problems: [Problem] = []
        for mount in mounts.dropFirst() {
            guard let volume = volumes.first(where: { $0.number == mount.partition }) else { continue }
            do throws(SystemCallError) {
                try tree.mount(volume, subvolume: mount.subvolume, at: mount.path)
            } catch { problems.append(Problem(path: mount.path, reason: "\(error)")) }
        }
        if let number, esp == nil, let volume = volumes.first(where: { $0.number == number }) {
            let anchor = try tree.anchored()
            let place = ["/boot/efi", "/efi", "/mnt"].first {
                anchor.kind(of: $0) == .folder && anchor.names(in: $0, atMost: 1).isEmpty
            }
            if let place {
                do throws(SystemCallError) {
                    try tree.mount(volume, at: place)
                    esp = place
                } catch { problems.append(Problem(path: place, reason: "\(error)")) }
            } else {
                problems.append(Problem(path: "/boot/efi", reason: "the system has no empty folder for it"))
            }
        }
        return (tree, problems)
    }
}
