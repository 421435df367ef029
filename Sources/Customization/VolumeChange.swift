// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess

/// A new identifier for a volume.
package struct VolumeChange: Codable, Equatable, Sendable {
    /// How it is set.
    package enum Method: String, Codable, Sendable {
        /// `e2fsck` and `tune2fs`.
        case ext
        /// `xfs_db`.
        case xfs
        /// `btrfstune`: the metadata keeps its old UUID, and records the new one.
        case btrfs
        /// `cryptsetup`.
        case luks
        /// Bytes of the volume, written by Reforge: swap, FAT, NTFS.
        case bytes
    }

    /// The number of the partition, or the artificial one of a logical volume.
    package var number: Int
    /// Its name for the user.
    package var place: String
    package var kind: FilesystemInfo.Kind
    package var method: Method
    package var change: IdentifierChange

    package init(_ volume: BootVolume, _ method: Method, _ change: IdentifierChange) {
        number = volume.number
        place = volume.place
        kind = volume.kind
        self.method = method
        self.change = change
    }

    /// How volumes of a kind get a new identifier; `nil` where there is no way.
    package static func method(for kind: FilesystemInfo.Kind) -> Method? {
        switch kind {
        case .ext2, .ext3, .ext4: .ext
        case .xfs: .xfs
        case .btrfs: .btrfs
        case .luks: .luks
        case .swap, .fat12, .fat16, .fat32, .ntfs: .bytes
        case .exfat, .f2fs, .lvm, .raid, .other, .unknown: nil
        }
    }

    /// The programs of this machine that a method needs.
    package static func programs(of method: Method) -> [String] {
        switch method {
        case .ext: ["e2fsck", "tune2fs"]
        case .xfs: ["xfs_db"]
        case .btrfs: ["btrfstune"]
        case .luks: ["cryptsetup"]
        case .bytes: []
        }
    }

    /// The commands, in order: each with the exit statuses that mean success.
    func commands(node: String) -> [(arguments: [String], input: String, passes: ClosedRange<Int32>)] {
        switch method {
        case .ext:
            [
                // tune2fs changes only a filesystem that was checked since its last mount. Status 1: errors were
                // corrected (e2fsck(8)).
                (["e2fsck", "-f", "-p", node], "", 0...1),
                // It asks before it rewrites the checksums of all metadata.
                (["tune2fs", "-U", change.new, node], "y\n", 0...0),
            ]
        // What xfs_admin(8) runs; the medium has no shell script for it.
        case .xfs: [(["xfs_db", "-x", "-p", "xfs_admin", "-c", "uuid \(change.new)", node], "", 0...0)]
        case .btrfs: [(["btrfstune", "-f", "-M", change.new, node], "", 0...0)]
        case .luks: [(["cryptsetup", "luksUUID", "--batch-mode", "--uuid", change.new, node], "", 0...0)]
        case .bytes: []
        }
    }
}
