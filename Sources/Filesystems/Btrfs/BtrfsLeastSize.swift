// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// A length to which `btrfs filesystem resize` can shrink a device.
///
/// Nothing has to move for a length at or above the end of the last device extent. Below that, each extent behind the
/// new end must find a hole before it, and the kernel needs working room: one more extent of the largest kind, and a
/// new system chunk of 32 MiB. So far this is the computation of `btrfs inspect-internal min-dev-size`
/// (adjust_dev_min_size in btrfs-progs, cmds/inspect.c); measured on nearly full filesystems, the kernel then still
/// ran out of space in one of eight, by up to the length of the largest extent. So two more of these are added. The
/// smaller of both lengths is the answer. The kernel refuses less than 256 MiB (btrfs_ioctl_resize).
enum BtrfsLeastSize {
    private static let kernelMinimum: UInt64 = 256 << 20
    private static let systemChunkByteCount: UInt64 = 32 << 20
    /// The limit of extents times holes to try; beyond it, the end of the last extent is the answer.
    private static let stepLimit = 1 << 22

    /// - Parameter deviceExtents: all device extents, in any order, disjoint, inside the device.
    static func byteCount(of superblock: BtrfsSuperblock, deviceExtents: [ByteRange]) -> UInt64 {
        let total = superblock.device.byteCount
        let extents = deviceExtents.sorted { $0.lowerBound < $1.lowerBound }
        let end = extents.last?.upperBound ?? 0
        let least = max(min(end, moved(extents) ?? end), kernelMinimum, BtrfsSuperblock.reservedHeadByteCount)
        // The kernel rounds down to whole sectors.
        let sector = UInt64(superblock.sectorSize)
        let rounded = (least + sector - 1) / sector * sector  // least is at most the device's length or 256 MiB
        return min(rounded, total)
    }

    /// The length with extents moved; `nil` if it is not computed.
    private static func moved(_ extents: [ByteRange]) -> UInt64? {
        // Offsets and lengths here are inside the device: sums of disjoint extents fit.
        var least = extents.reduce(BtrfsSuperblock.reservedHeadByteCount) { $0 + $1.byteCount }
        var holes = holes(before: extents)
        guard holes.count * extents.count <= stepLimit else { return nil }
        var scratch: UInt64 = 0
        for extent in extents.reversed() where extent.upperBound > least {
            guard
                let index = holes.firstIndex(where: {
                    $0.byteCount >= extent.byteCount && $0.lowerBound + extent.byteCount <= extent.lowerBound
                })
            else {
                least = extent.upperBound
                break
            }
            let target = holes[index].lowerBound..<holes[index].lowerBound + extent.byteCount
            // A copy of the superblock in the hole reduces the room for a chunk that may be full.
            let hasMirror = BtrfsSuperblock.offsets.contains {
                target.overlaps($0..<$0 + BtrfsSuperblock.reservedByteCount)
            }
            if hasMirror { least = sum(least, extent.byteCount) }
            holes[index] = target.upperBound..<holes[index].upperBound
            scratch = max(scratch, extent.byteCount)
        }
        guard scratch > 0 else { return least }
        let largest = extents.reduce(0) { max($0, $1.byteCount) }
        for room in [scratch, systemChunkByteCount, largest, largest] { least = sum(least, room) }
        return least
    }

    private static func holes(before extents: [ByteRange]) -> [ByteRange] {
        var holes: [ByteRange] = []
        var position = BtrfsSuperblock.reservedHeadByteCount
        for extent in extents {
            if extent.lowerBound > position { holes.append(position..<extent.lowerBound) }
            position = max(position, extent.upperBound)
        }
        return holes
    }

    private static func sum(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let (value, overflow) = left.addingReportingOverflow(right)
        return overflow ? .max : value
    }
}
