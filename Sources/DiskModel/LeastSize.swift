// SPDX-License-Identifier: GPL-3.0-or-later

/// The least lengths to which filesystems can be shrunk, computed before the restore. Each errs towards more: a plan
/// that relies on one must not fail in the middle.
package enum LeastSize {
    /// Swap: the kernel and mkswap accept ten pages; a smaller area than this is useless.
    package static let swap: UInt64 = 1 << 20
    /// Btrfs: the kernel does not shrink a device below this (`btrfs_ioctl_resize`, fs/btrfs/ioctl.c: SZ_256M).
    package static let btrfsFloor: UInt64 = 256 << 20

    /// NTFS: ntfsresize moves every cluster except those of bad sectors, so the clusters in use are needed, and it
    /// refuses less (its "You might resize at"). In addition, the moves need room: file records for longer run lists,
    /// at most a 64th of the moved data, and a boot sector's backup behind the last cluster. 16 MiB at the least: a
    /// Windows that starts on a full volume cannot even write its log.
    /// - Parameters:
    ///   - usedByteCount: the used bytes according to the cluster bitmap.
    ///   - clusterSize: in bytes.
    package static func ntfs(usedByteCount: UInt64, clusterSize: Int) -> UInt64 {
        let cluster = UInt64(max(512, clusterSize))
        let margin = max(16 << 20, usedByteCount / 64)
        return roundedUp(usedByteCount.addingClamped(margin).addingClamped(cluster), to: cluster).addingClamped(cluster)
    }

    /// Btrfs: a chunk is moved as a whole into unallocated space. So the least is all allocated space, the first MiB,
    /// which is never allocated, and one more of the largest pieces, for the move.
    /// - Parameters:
    ///   - allocatedByteCount: the sum of the device extents: both copies of DUP count.
    ///   - largestExtentByteCount: the longest device extent.
    package static func btrfs(allocatedByteCount: UInt64, largestExtentByteCount: UInt64) -> UInt64 {
        let sum = allocatedByteCount.addingClamped(largestExtentByteCount).addingClamped(16 << 20)
        return max(btrfsFloor, roundedUp(sum, to: 1 << 20))
    }

    private static func roundedUp(_ value: UInt64, to unit: UInt64) -> UInt64 {
        value % unit == 0 ? value : value.addingClamped(unit - value % unit)
    }
}

extension UInt64 {
    fileprivate func addingClamped(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
