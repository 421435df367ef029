// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Testing

@Suite struct ResizeAbilityTests {
    static func info(
        _ kind: FilesystemInfo.Kind, blockSize: Int = 4096, features: [String] = [], whole: String? = nil
    ) -> FilesystemInfo {
        FilesystemInfo(
            kind: kind, kindName: kind.rawValue, blockSize: blockSize, features: features,
            mapSource: whole == nil ? .allocationStructures : .whole, wholeReason: whole)
    }

    @Test func whatGrowsAndShrinks() {
        let growing: Set<FilesystemInfo.Kind> = [.ext2, .ext3, .ext4, .ntfs, .xfs, .btrfs, .f2fs, .swap]
        let shrinking: Set<FilesystemInfo.Kind> = [.ext2, .ext3, .ext4, .ntfs, .btrfs, .swap]
        for kind in FilesystemInfo.Kind.allCases {
            let ability = Self.info(kind).resizeAbility
            #expect(ability.canGrow == growing.contains(kind), "\(kind)")
            #expect(ability.canShrink == shrinking.contains(kind), "\(kind)")
        }
        #expect(Self.info(.xfs).resizeAbility.shrinkObstacle == "XFS cannot be made smaller")
        #expect(Self.info(.fat32).resizeAbility.growObstacle == "FAT keeps its size")
    }

    @Test func whatNobodyUnderstoodIsLeftAlone() {
        let reason = "its log holds changes not yet in place"
        for kind in [FilesystemInfo.Kind.ntfs, .xfs, .btrfs, .f2fs] {
            #expect(Self.info(kind, whole: reason).resizeAbility.growObstacle == reason)
            #expect(!Self.info(kind, whole: reason).resizeAbility.canShrink)
            // A request to copy every sector does not describe the filesystem.
            #expect(Self.info(kind, whole: FilesystemInfo.allSectorsReason).resizeAbility.canGrow)
        }
        // e2fsck replays the journal of the copy before it grows.
        #expect(Self.info(.ext4, whole: reason).resizeAbility.canGrow)
        #expect(Self.info(.ext4, whole: reason).resizeAbility.shrinkObstacle == reason)
    }

    @Test func someVariantsKeepTheirSize() {
        let bigalloc = Self.info(.ext4, features: ["extent", "bigalloc"]).resizeAbility
        #expect(bigalloc.growObstacle == "resize2fs does not resize ext4 with bigalloc" && !bigalloc.canShrink)
        let stable = Self.info(.ext4, features: ["stable_inodes"]).resizeAbility
        #expect(stable.canGrow && !stable.canShrink)
        #expect(!Self.info(.swap, blockSize: 65536).resizeAbility.canGrow)
    }

    @Test func leastSizesErrTowardsMoreAndDoNotOverflow() {
        #expect(LeastSize.ntfs(usedByteCount: 3 << 30, clusterSize: 4096) == (3 << 30) + (48 << 20) + 8192)
        #expect(LeastSize.ntfs(usedByteCount: 0, clusterSize: 0) > 16 << 20)
        #expect(LeastSize.ntfs(usedByteCount: .max, clusterSize: .max) == .max)
        #expect(LeastSize.btrfs(allocatedByteCount: 0, largestExtentByteCount: 0) == 256 << 20)
        #expect(LeastSize.btrfs(allocatedByteCount: 3 << 30, largestExtentByteCount: 1 << 30) > 4 << 30)
        #expect(LeastSize.btrfs(allocatedByteCount: .max, largestExtentByteCount: .max) == .max)
    }
}
