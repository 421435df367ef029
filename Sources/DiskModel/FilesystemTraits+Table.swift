// SPDX-License-Identifier: GPL-3.0-or-later

extension FilesystemTraits {
    /// One row for each kind with a reader, and rows for some kinds known only by name.
    static let table: [FilesystemTraits] = [
        // ext4's driver refuses `noload` for ext2, which has no journal to load.
        ext([.ext2], readOnlyOptions: ""), ext([.ext3, .ext4], readOnlyOptions: "noload"),
        fat([.fat12, .fat16], names: ["vfat"], bootSectors: .first), fat([.fat32], bootSectors: .firstAndNamed), exfat,
        ntfs, xfs, btrfs, f2fs, swap, lvm, luks, raid, unread,
        written("iso9660"), written("udf"), written("hfsplus"), jfs,
    ]

    private static func ext(_ kinds: Set<FilesystemInfo.Kind>, readOnlyOptions: String) -> FilesystemTraits {
        var row = FilesystemTraits(kinds)
        row.mount = MountManner("ext4", readOnlyOptions: readOnlyOptions)
        row.fstabTypes = ["ext2", "ext3", "ext4"]
        row.mayHoldSystem = true
        row.grubModule = "ext2"
        row.resizeObstacle = { info in
            // resize2fs: "Resizing bigalloc file systems has not been fully tested", and it stops there.
            let blocking = ["bigalloc", "shared_blocks", "read-only"].first(where: info.features.contains)
            return blocking.map { "resize2fs does not resize ext4 with \($0)" }
        }
        row.shrinkObstacle = { info in
            // Their files are encrypted with keys that depend on inode numbers, which shrinking changes.
            info.features.contains("stable_inodes") ? "ext4 with stable_inodes cannot be made smaller" : nil
        }
        // `e2fsck -f -p` replays its journal in the restored copy, and decides whether it is clean.
        row.growsUnclean = true
        row.shrink = .byTool
        // A filesystem that was not clean at its capture is repaired, not checked.
        row.checksLossesFirst = { $0.isClean != false }
        row.growCommand = "resize2fs NODE"
        row.fileLookup = .debugfs
        // sb_set_blocksize() refuses blocks below the logical sector size.
        row.sectors = .blocks("blocks")
        // The whole journal is in use, so it is the captured one; its blocks are copied into place regardless of the
        // bytes there (`fs/jbd2/recovery.c`, do_one_pass).
        row.olderLife = .harmless
        return row
    }

    private static func fat(
        _ kinds: Set<FilesystemInfo.Kind>, names: Set<String> = [], bootSectors: BootSectors
    ) -> FilesystemTraits {
        var row = FilesystemTraits(kinds, names: names)
        row.bootSectors = bootSectors
        row.mount = MountManner("vfat")
        row.fstabTypes = ["vfat", "msdos", "fat"]
        row.grubModule = "fat"
        row.resizeObstacle = { _ in "FAT keeps its size" }
        row.sectors = .recreated
        return row
    }

    private static let exfat: FilesystemTraits = {
        var row = FilesystemTraits([.exfat])
        row.mount = MountManner("exfat")
        row.resizeObstacle = { _ in "exFAT keeps its size" }
        row.sectors = .sameSectors
        return row
    }()

    private static let ntfs: FilesystemTraits = {
        var row = FilesystemTraits([.ntfs])
        row.shrink = .byTool
        row.checksLossesFirst = { _ in true }
        row.growCommand = "ntfsresize NODE"
        row.fileLookup = .ntfscluster
        row.bootSectors = .firstAndBehindLast
        row.sectors = .sameSectors
        // All of $LogFile and of $MFT is in use. A new index block is logged completely before parts of it are.
        row.olderLife = .harmless
        return row
    }()

    private static let xfs: FilesystemTraits = {
        var row = FilesystemTraits([.xfs])
        // A copy of it may be mounted elsewhere.
        row.mount = MountManner("xfs", readOnlyOptions: "norecovery,nouuid")
        row.mayHoldSystem = true
        row.grubModule = "xfs"
        row.shrinkObstacle = { _ in "XFS cannot be made smaller" }
        row.growCommand = "xfs_growfs MOUNTPOINT"
        row.fileLookup = .xfsDebugger
        // fs/xfs/xfs_super.c, xfs_setup_devices: the buffer target's sector is sb_sectsize.
        row.sectors = .ownSectors
        // Metadata carries the log sequence number of its last change, and recovery skips metadata that looks newer
        // than the change it would repeat (kernel, `fs/xfs/xfs_buf_item_recover.c`, xlog_recover_get_buf_lsn). A block
        // allocated for the first time since the restore may look newer. Version 4 has no such numbers.
        row.olderLife = .newerLog
        return row
    }()

    private static let btrfs: FilesystemTraits = {
        var row = FilesystemTraits([.btrfs])
        row.mount = MountManner("btrfs", readOnlyOptions: "rescue=nologreplay")
        row.mayHoldSystem = true
        row.grubModule = "btrfs"
        row.shrink = .byTool
        row.growCommand = "btrfs filesystem resize max MOUNTPOINT"
        row.sectors = .ownSectors
        // Trees are reached through pointers that record the generation of their target, from superblocks that are
        // written last; a log tree is one of them.
        row.olderLife = .harmless
        return row
    }()

    private static let f2fs: FilesystemTraits = {
        var row = FilesystemTraits([.f2fs])
        row.mount = MountManner("f2fs", readOnlyOptions: "norecovery")
        row.mayHoldSystem = true
        row.grubModule = "f2fs"
        row.shrinkObstacle = { _ in "F2FS cannot be made smaller" }
        // resize.f2fs counts the disk's sectors, but takes them for sectors of the size that the filesystem was made
        // with (f2fs-tools 1.15, `fsck/resize.c`, get_new_sb).
        row.growsOnOtherSectors = false
        row.growCommand = "resize.f2fs NODE"
        row.sectors = .blocks("blocks")
        // Recovery follows the node logs from block to block, even into segments that were free at the last
        // checkpoint, and accepts blocks with that checkpoint's version (`fs/f2fs/recovery.c`, find_fsync_dnodes).
        row.olderLife = .cleared
        return row
    }()

    private static let swap: FilesystemTraits = {
        var row = FilesystemTraits([.swap])
        row.resizeObstacle = { info in
            // mkswap can write any page size, but the other properties of that machine that it needs are unknown here.
            if info.blockSize != 4096 { return "swap with pages other than 4 KiB keeps its size" }
            if info.features.contains("badpages") { return "a swap area with a list of bad pages keeps its size" }
            // mkswap keeps the last of the 16 bytes for a NUL.
            let isWritable =
                info.label.map { $0.utf8.count < 16 && !$0.unicodeScalars.contains("\u{FFFD}") } ?? true
            return isWritable ? nil : "mkswap cannot write the label of this swap area again"
        }
        row.shrink = .madeAgain
        row.checksLossesFirst = { _ in true }
        row.sectors = .blocks("pages")
        return row
    }()

    // For containers, each volume inside is checked for its own older content.

    private static let lvm: FilesystemTraits = {
        var row = FilesystemTraits([.lvm], names: ["LVM2_member"])
        row.resizeObstacle = { info in
            // An image of an earlier version has no data about the group.
            guard let group = info.volumeGroup else { return "the requirements of its volume group are not known" }
            return group.resizeObstacle
        }
        row.shrink = .byTool
        row.growCommand = "pvresize NODE, then lvextend --resizefs --extents +100%FREE GROUP/VOLUME"
        row.sectors = .extentsAndContents
        return row
    }()

    private static let luks: FilesystemTraits = {
        var row = FilesystemTraits([.luks], names: ["crypto_LUKS"])
        // It fills its partition whenever it is opened; its content is grown later, with its key.
        row.resizeObstacle = { info in
            info.byteCount == nil ? "LUKS of this kind keeps its size" : nil
        }
        row.shrinkObstacle = { info in
            guard let contents = EncryptedContents(info) else {
                return "the filesystem inside of LUKS, which would have to shrink first, is not known: it was captured "
                    + "without its key (capture --luks-key-file)"
            }
            return contents.shrinkObstacle
        }
        row.growsUnclean = true
        row.shrink = .byTool
        row.sectors = .contents
        return row
    }()

    private static let raid: FilesystemTraits = {
        var row = FilesystemTraits([.raid])
        row.resizeObstacle = { "the contents of \($0.kindName) would have to be resized too" }
        return row
    }()

    /// Kinds without a reader are copied whole: no older content is left.
    static let unread: FilesystemTraits = {
        var row = FilesystemTraits([.other, .unknown])
        row.resizeObstacle = { _ in "no resize tool is known for its contents" }
        return row
    }()

    /// Filesystems of removable media from which the recovery medium can read images.
    private static func written(_ name: String) -> FilesystemTraits {
        var row = unread
        (row.kinds, row.names) = ([], [name])
        row.mount = MountManner(name, isWritable: false)
        return row
    }

    private static let jfs: FilesystemTraits = {
        var row = unread
        (row.kinds, row.names) = ([], ["jfs"])
        row.mayHoldSystem = true
        row.grubModule = "jfs"
        return row
    }()
}
