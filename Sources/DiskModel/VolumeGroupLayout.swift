// SPDX-License-Identifier: GPL-3.0-or-later

/// Computes the lengths of a group's logical volumes when its only physical volume is resized. Pure: no tool is run.
///
/// With more room, only the added extents are distributed: extents that were free before were left free on purpose,
/// usually for snapshots. With the policy `grow`, the largest volume whose filesystem can grow takes all of them (of
/// two equal ones the last): a group's order is that of creation, and has no meaning. With `proportional`, all volumes
/// that can grow share them in proportion to their sizes. With `keep` they stay free.
///
/// With less room, free extents are used up first. Then the volume that would grow shrinks to its least before the
/// others shrink, in proportion to the room that each can give.
///
/// Swap keeps its size in both directions: it depends on the memory, not on the disk.
package struct VolumeGroupLayout: Sendable {
    /// One logical volume, in extents.
    struct Volume: Equatable, Sendable {
        var count: UInt64
        /// The least length that its filesystem fits; its length where that cannot shrink.
        var least: UInt64
        var canGrow: Bool
    }

    let group: FilesystemInfo.VolumeGroup
    let volumes: [Volume]
    /// The captured length of the physical volume in bytes.
    let capturedByteCount: UInt64

    /// The layout of a physical volume; `nil` if it must keep its size, or where its data are impossible.
    package init?(_ filesystem: FilesystemInfo) {
        guard filesystem.kind == .lvm, let group = filesystem.volumeGroup, group.resizeObstacle == nil,
            group.extentByteCount > 0, group.byteCount(ofExtents: group.extentCount) != nil,
            let inner = filesystem.inner
        else { return nil }
        var volumes: [Volume] = []
        var total: UInt64 = 0
        for volume in inner {
            guard volume.byteCount > 0, volume.byteCount % group.extentByteCount == 0 else { return nil }
            let parsed = Self.volume(volume, unit: group.extentByteCount)
            let (sum, overflow) = total.addingReportingOverflow(parsed.count)
            guard !overflow, sum <= group.extentCount else { return nil }
            total = sum
            volumes.append(parsed)
        }
        self.group = group
        self.volumes = volumes
        capturedByteCount = filesystem.byteCount ?? .max
    }

    private static func volume(_ volume: FilesystemInfo.InnerVolume, unit: UInt64) -> Volume {
        let filesystem = volume.filesystem
        let count = volume.byteCount / unit
        // Data behind a filesystem's end would be lost, or be in its way; and containers inside of
        // a volume are not resized.
        let isFollowing =
            ![.swap, .luks, .lvm, .raid].contains(filesystem.kind)
            && LayoutPlanner.fills(filesystem, 0..<volume.byteCount)
        let ability = filesystem.resizeAbility
        var least = count
        if isFollowing, ability.canShrink, let bytes = filesystem.leastByteCount {
            least = min(count, max(1, bytes / unit + (bytes % unit == 0 ? 0 : 1)))
        }
        return Volume(count: count, least: least, canGrow: isFollowing && ability.canGrow)
    }

    /// The least possible length of the physical volume in bytes.
    package var leastByteCount: UInt64? {
        // LVM does not accept a physical volume of less than 2 MiB (lvm.conf(5), devices/pv_min_size).
        group.byteCount(ofExtents: max(1, volumes.reduce(0) { $0 + $1.least })).map { max($0, 4 << 20) }
    }

    /// The lengths of the logical volumes in bytes, in the order of `FilesystemInfo.inner`, on a physical volume of
    /// that many bytes; `nil` if they do not fit.
    package func byteCounts(on byteCount: UInt64, policy: LayoutPolicy) -> [UInt64]? {
        // LVM's reserved space is estimated: a partition that is not shorter has no fewer extents.
        let available = max(
            group.extentCount(in: byteCount), byteCount >= capturedByteCount ? group.extentCount : 0)
        let taken = volumes.reduce(0) { $0 + $1.count }
        var counts = volumes.map(\.count)
        if available < taken {
            guard shrink(&counts, by: taken - available) else { return nil }
        } else if available > group.extentCount {
            grow(&counts, by: available - group.extentCount, policy)
        }
        var lengths: [UInt64] = []
        for count in counts {
            let (length, overflow) = count.multipliedReportingOverflow(by: group.extentByteCount)
            guard !overflow else { return nil }
            lengths.append(length)
        }
        return lengths
    }

    /// The largest volume that can grow.
    private var favourite: Int? {
        volumes.indices.filter { volumes[$0].canGrow }.max { (volumes[$0].count, $0) < (volumes[$1].count, $1) }
    }

    private func grow(_ counts: inout [UInt64], by added: UInt64, _ policy: LayoutPolicy) {
        guard policy != .keep, let favourite else { return }
        var left = added
        if policy == .proportional {
            let growing = volumes.indices.filter { volumes[$0].canGrow }
            let total = growing.reduce(UInt128(0)) { $0 + UInt128(volumes[$1].count) }
            for index in growing where total > 0 {
                let share = UInt64(UInt128(added) * UInt128(volumes[index].count) / total)
                counts[index] += share
                left -= share
            }
        }
        counts[favourite] += left
    }

    private func shrink(_ counts: inout [UInt64], by missing: UInt64) -> Bool {
        var left = missing
        func give(_ index: Int, _ most: UInt64) {
            let given = min(left, most, counts[index] - volumes[index].least)
            counts[index] -= given
            left -= given
        }
        if let favourite { give(favourite, left) }
        let total = volumes.indices.reduce(UInt128(0)) { $0 + UInt128(counts[$1] - volumes[$1].least) }
        guard total >= UInt128(left) else { return false }
        let wanted = left
        for index in volumes.indices where total > 0 {
            // Rounded up: the remainder reaches zero, and no volume falls below its least.
            let spare = UInt128(counts[index] - volumes[index].least)
            give(index, UInt64((UInt128(wanted) * spare + total - 1) / total))
        }
        return left == 0
    }
}
