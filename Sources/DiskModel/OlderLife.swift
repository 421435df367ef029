// SPDX-License-Identifier: GPL-3.0-or-later

/// What a restored filesystem needs done about an older life of its place: the unused blocks may hold metadata that the
/// same filesystem wrote there at another time, before or after the capture.
///
/// What the place seems to hold now proves nothing: an older life may lie under a younger one of something else.
public enum OlderLife: Sendable {
    /// Nothing: no recovery of this format reads, or is stopped by, blocks that are not in use.
    case harmless
    /// Its log gets a cycle newer than every block on the disk.
    case newerLog
    /// Its unused ranges are made zero.
    case cleared
}

extension FilesystemInfo.Kind {
    /// What a filesystem of this kind, restored by its map, needs done before the commit.
    public var olderLife: OlderLife {
        switch self {
        // Metadata carries the sequence number of its last change in the log, and recovery leaves alone what looks newer
        // than the change it would repeat (kernel, `fs/xfs/xfs_buf_item_recover.c`, xlog_recover_get_buf_lsn). A block
        // that is allocated for the first time since the restore may look so. Version 4 has no such numbers.
        case .xfs: .newerLog
        // Recovery follows the node logs from block to block, also into segments that were free at the last checkpoint,
        // and takes what carries that checkpoint's version (`fs/f2fs/recovery.c`, find_fsync_dnodes).
        case .f2fs: .cleared
        // The journal is in use as a whole, so it is the captured one; its blocks are copied into place whatever is there
        // (`fs/jbd2/recovery.c`, do_one_pass).
        case .ext2, .ext3, .ext4: .harmless
        // Trees are reached through pointers that name the generation of what they point to, from superblocks that are
        // written last; a log tree is one of them.
        case .btrfs: .harmless
        // $LogFile is in use as a whole, and so is $MFT. A new index block is logged as a whole before parts of it are.
        case .ntfs: .harmless
        // No journal.
        case .fat12, .fat16, .fat32, .exfat, .swap: .harmless
        // Of containers, each volume inside is asked.
        case .lvm, .luks, .raid: .harmless
        // Copied whole: nothing of an older life is left.
        case .other, .unknown: .harmless
        }
    }
}
