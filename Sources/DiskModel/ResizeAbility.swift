// SPDX-License-Identifier: GPL-3.0-or-later

/// Whether a filesystem's length can be changed by its own tool, as far as its survey tells: nothing is run for it.
public struct ResizeAbility: Equatable, Sendable {
    /// Why it cannot be made larger, as a sentence; `nil` where it can.
    public var growObstacle: String?
    /// Why it cannot be made smaller, as a sentence; `nil` where it can (down to `FilesystemInfo.leastByteCount`).
    public var shrinkObstacle: String?

    /// Whether it can be made larger.
    public var canGrow: Bool { growObstacle == nil }
    /// Whether it can be made smaller.
    public var canShrink: Bool { shrinkObstacle == nil }
}

extension FilesystemInfo {
    /// The reason for `MapSource.whole` that says nothing about the filesystem: somebody wished for every sector.
    public static let allSectorsReason = "all sectors were asked for"

    /// Whether it can be resized once it is restored.
    public var resizeAbility: ResizeAbility {
        ResizeAbility(
            growObstacle: kindObstacle ?? (isExt || kind == .luks ? nil : stateObstacle),
            shrinkObstacle: kindObstacle ?? shrinkKindObstacle ?? stateObstacle)
    }

    /// Whether its tool makes it larger right on sectors of `size` bytes: resize.f2fs counts the disk's sectors, and takes
    /// them for those that the filesystem was made with (f2fs-tools 1.15, `fsck/resize.c`, get_new_sb).
    public func growsOnSectors(of size: Int) -> Bool { kind != .f2fs || sectorSize == size }

    /// What holds in both directions.
    private var kindObstacle: String? {
        switch kind {
        case .fat12, .fat16, .fat32: return "FAT keeps its size"
        case .exfat: return "exFAT keeps its size"
        case .lvm:
            // An image of an earlier version says nothing of the group.
            guard let volumeGroup else { return "what its volume group needs is not known" }
            return volumeGroup.resizeObstacle
        // It fills its place whenever it is opened; what is inside is grown later, with its key.
        case .luks: return byteCount == nil ? "LUKS of this kind does not follow the size of its place" : nil
        case .raid: return "what is inside of \(kindName) must be resized with it"
        case .other, .unknown: return "no tool is known for what it holds"
        case .ext2, .ext3, .ext4:
            // resize2fs: "Resizing bigalloc file systems has not been fully tested", and it stops there.
            let blocking = ["bigalloc", "shared_blocks", "read-only"].first(where: features.contains)
            return blocking.map { "resize2fs does not resize ext4 with \($0)" }
        case .swap:
            // mkswap can write any page size, but what else it would have to know of that machine is not known here.
            if blockSize != 4096 { return "swap with pages other than 4 KiB keeps its size" }
            if features.contains("badpages") { return "a swap area with a list of bad pages keeps its size" }
            // It keeps the last of the 16 bytes for a NUL.
            let isWritable = label.map { $0.utf8.count < 16 && !$0.unicodeScalars.contains("\u{FFFD}") } ?? true
            return isWritable ? nil : "mkswap cannot write the label of this swap area again"
        case .ntfs, .xfs, .btrfs, .f2fs: return nil
        }
    }

    private var shrinkKindObstacle: String? {
        switch kind {
        case .xfs: "XFS cannot be made smaller"
        case .f2fs: "F2FS cannot be made smaller"
        case .luks: luksShrinkObstacle
        case .ext2, .ext3, .ext4:
            // Their files are encrypted with inode numbers, which shrinking changes.
            features.contains("stable_inodes") ? "ext4 with stable_inodes cannot be made smaller" : nil
        default: nil
        }
    }

    private var luksShrinkObstacle: String? {
        guard let contents = EncryptedContents(self) else {
            return
                "what is inside of LUKS would have to be made smaller first, and is not known: it was captured without its "
                + "key (capture --luks-key-file)"
        }
        return contents.shrinkObstacle
    }

    /// A log to replay, damage, an unknown feature: its tool would work on something that nobody has understood. An ext
    /// may grow all the same: `e2fsck -f -p` replays its journal in the restored copy, and is the judge.
    private var stateObstacle: String? {
        guard mapSource == .whole, wholeReason != Self.allSectorsReason else { return nil }
        return wholeReason ?? "it could not be read"
    }
}
