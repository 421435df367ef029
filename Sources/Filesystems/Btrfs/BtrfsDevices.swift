// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// The devices of a Btrfs.
package enum BtrfsDevices {
    /// The number of devices of the filesystem on a volume; `nil` if there is none.
    ///
    /// btrfs-progs open all of them, wherever they are: on a clone, those of the source.
    package static func count(on volume: any BlockReader) throws(BlockIOError) -> UInt64? {
        try BtrfsFilesystem.superblock(volume, at: BtrfsSuperblock.offsets[0])?.deviceCount
    }
}
