// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess
import SystemPackage

/// A subvolume of Btrfs that holds a system.
struct BtrfsRoot: Equatable {
    /// Its path from the top level, without a slash in front; empty for the top level itself.
    var path: String
    /// Whether a mount without options shows it.
    var isDefault: Bool
    /// The subvolume that its own fstab mounts as the root; `nil` if that names none.
    var named: String?

    /// Upper bound on the top-level folders to search.
    private static let mostFolders = 256

    /// Chooses the subvolume from which the system starts. Snapshots hold a system too, but their fstab names the
    /// original subvolume.
    /// - Returns: `nil` if the choice is ambiguous.
    static func choose(_ roots: [BtrfsRoot]) -> BtrfsRoot? {
        let selfNamed = roots.filter { $0.named == $0.path }
        if !selfNamed.isEmpty { return selfNamed.count == 1 ? selfNamed.first : nil }
        if let standard = roots.first(where: { $0.isDefault && $0.named == nil }) { return standard }
        // A single snapshot names its original, which is not on this filesystem.
        guard roots.count == 1, let only = roots.first, only.named == nil || only.named == only.path else { return nil }
        return only
    }

    /// The subvolumes with a system on a Btrfs: the default one, the top level, and its direct subfolders.
    static func find(
        on volume: BootVolume, of disk: BlockDevice, keys: [FilePath] = []
    ) throws(SystemCallError) -> [BtrfsRoot] {
        var standard: String
        do {
            let tree = try SystemTree(volume, of: disk, readOnly: true, keys: keys)
            defer { try? tree.close() }
            standard = tree.pathInFilesystem("/") ?? "/"
        }
        standard = String(standard.drop { $0 == "/" })
        let top = try SystemTree(volume, subvolume: "", of: disk, readOnly: true, keys: keys)
        defer { try? top.close() }
        let anchor = try top.anchored()
        var paths = [standard]
        for path in [""] + anchor.names(in: "/").prefix(mostFolders) where !paths.contains(path) { paths.append(path) }
        return paths.compactMap { path in
            let fstab = anchor.text("\(path)/etc/fstab")
            guard fstab != nil || InstalledSystemReader.releaseText(anchor, below: path) != nil else { return nil }
            let root = Fstab(fstab ?? "").entries.first { $0.mountPoint == "/" }
            return BtrfsRoot(path: path, isDefault: path == standard, named: root?.subvolume)
        }
    }
}
