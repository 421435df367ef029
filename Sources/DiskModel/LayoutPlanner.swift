// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// Decides where partitions go. Pure: no disk is touched.
///
/// Nothing moves for nothing: what fits where it was stays there, whatever its alignment. What has to move starts on
/// the target's alignment, in the captured order. Sizes come from, in this order:
///
/// 1. Wishes. An exact size is rounded up to the target's sector, and a partition may be wished larger than its
///    filesystem follows. `rest` takes all that the others leave up to the next partition or the end.
/// 2. What the target needs (`PartitionAbility.leastByteCount` above the present length).
/// 3. Where there is too little room: first gaps shrink to the alignment. Then, but for the policy `keep`, partitions
///    shrink, no more than needed: first one with the wish `rest`; then the one that would grow, which is the last that
///    can grow; then all others together, each by its share of what they could give; the special ones (boot, recovery,
///    swap) last. Each of these goes down to its least before the next begins, and new lengths end on the alignment.
/// 4. Where the target has more room than the source, or wishes leave some: by the policy. What stands behind a
///    partition that grows moves up. With `proportional` each share is rounded down to the alignment; the last
///    partition takes what the rounding leaves.
///
/// The gap before the first partition (GRUB's core image, firmware of small boards) stays as large as it was. A partition
/// that starts in the first MiB (sector 63) is not resized there, because that MiB is written last: it moves behind it
/// where a wish, a small target or the policy resizes it.
///
/// In an MBR, the extended partition begins with the first extended boot record (EBR), and holds all logical
/// partitions, each with at least a sector in front of it for its own; it ends where it ended if that still fits.
package enum LayoutPlanner {
    /// A layout of `table` on a target, where nothing is known to be able to shrink and only ext filesystems grow.
    package static func plan(
        _ table: PartitionTable, source: DiskGeometry, filesystems: [Int: FilesystemInfo], target: DiskGeometry,
        policy: LayoutPolicy
    ) throws(LayoutError) -> DiskLayout {
        try plan(
            table, source: source, filesystems: filesystems,
            abilities: growingExt(table, filesystems), target: target, request: LayoutRequest(policy: policy))
    }

    /// A layout of `table` on a target.
    /// - Parameters:
    ///   - table: the captured GPT or MBR.
    ///   - source: the captured disk.
    ///   - filesystems: what partitions hold, by number: for names, and for what marks a partition for booting.
    ///   - abilities: what their contents allow on this target, by number; one without an entry keeps its length.
    ///   - target: the target disk. Its logical sector size may be another: starts and lengths are multiples of it.
    ///   - request: the policy and the wishes.
    /// - Throws: `LayoutError`, with the least size of a target that would do where one would.
    package static func plan(
        _ table: PartitionTable, source: DiskGeometry, filesystems: [Int: FilesystemInfo],
        abilities: [Int: PartitionAbility], target: DiskGeometry, request: LayoutRequest
    ) throws(LayoutError) -> DiskLayout {
        try LayoutSolver(
            table: table, source: source, filesystems: filesystems, abilities: abilities, target: target,
            request: request
        ).solve()
    }

    /// Abilities where only the filesystems themselves are known: an ext filesystem that fills its partition grows.
    package static func growingExt(
        _ table: PartitionTable, _ filesystems: [Int: FilesystemInfo]
    ) -> [Int: PartitionAbility] {
        var abilities: [Int: PartitionAbility] = [:]
        for partition in table.partitions {
            guard let filesystem = filesystems[partition.number], filesystem.isExt, fills(filesystem, partition.range)
            else { continue }
            abilities[partition.number] = PartitionAbility(leastByteCount: partition.range.byteCount, canGrow: true)
        }
        return abilities
    }

    /// Whether a filesystem fills its place. What stands behind its end (a verity tree, an md superblock) would be lost
    /// if it grew; some KiB are only what is left of the last block.
    package static func fills(_ filesystem: FilesystemInfo, _ range: ByteRange) -> Bool {
        guard let length = filesystem.byteCount else { return false }
        return length <= range.byteCount && range.byteCount - length < 64 << 10
    }

    /// Whether a partition is for booting, recovery or swap: its size does not follow that of the disk.
    static func isSpecial(_ partition: Partition, _ filesystem: FilesystemInfo?) -> Bool {
        let special = [
            PartitionType.efiSystem, PartitionType.biosBoot, PartitionType.extendedBoot, PartitionType.linuxSwap,
            PartitionType.microsoftReserved, PartitionType.windowsRecovery,
        ]
        let isBoot =
            filesystem?.lastMountPoint == "/boot"
            || [partition.name, filesystem?.label ?? ""].contains { ["boot", "/boot"].contains($0.lowercased()) }
        return special.contains(partition.typeGUID.description) || isBoot
    }
}
