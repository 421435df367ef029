// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// Plans the ranges of partitions on a target. Pure: no disk is touched.
///
/// Partitions move only when necessary: a partition that fits at its old place stays there, whatever its alignment. A
/// partition that must move starts on the target's alignment, in the captured order. Sizes come from, in this order:
///
/// 1. Requests. An exact size is rounded up to the target's sector, and a partition may be requested larger than its
///    filesystem can grow. `rest` takes all the room that the others leave, up to the next partition or the end.
/// 2. The target's requirements (`PartitionAbility.leastByteCount` above the present length).
/// 3. Too little room: first, gaps shrink to the alignment. Then, except with the policy `keep`, partitions shrink, no
///    more than needed: first a partition with the request `rest`; then the one that would grow, which is the last that
///    can grow; then all others together, in proportion to the room that each can give; the special ones (boot,
///    recovery, swap) last. Each of these steps goes down to the least sizes before the next begins, and new lengths
///    end on the alignment.
/// 4. More room than on the source, or room left by requests: by the policy. Partitions behind a growing one move up.
///    With `proportional`, each share is rounded down to the alignment; the last partition takes the remainder.
///
/// The gap before the first partition (GRUB's core image, firmware of small boards) keeps its size. A partition that
/// starts in the first MiB (sector 63) is not resized there, because that MiB is written last: it moves behind the MiB
/// if a request, a small target or the policy resizes it.
///
/// In an MBR, the extended partition begins with the first extended boot record (EBR) and contains all logical
/// partitions, each with at least one sector before it for its own EBR; its end stays if everything still fits.
package enum LayoutPlanner {
    /// A layout of `table` on a target, if no content can shrink and only ext filesystems grow.
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
    ///   - filesystems: the contents of partitions, by number: for names, and to recognise boot partitions.
    ///   - abilities: the sizes that their contents allow on this target, by number; a partition without one keeps its
    ///     length.
    ///   - target: the target disk. Its logical sector size may differ: starts and lengths are multiples of it.
    ///   - request: the policy and the requests for partitions.
    /// - Throws: `LayoutError`, with the least sufficient size of a target if there is one.
    package static func plan(
        _ table: PartitionTable, source: DiskGeometry, filesystems: [Int: FilesystemInfo],
        abilities: [Int: PartitionAbility], target: DiskGeometry, request: LayoutRequest
    ) throws(LayoutError) -> DiskLayout {
        try LayoutSolver(
            table: table, source: source, filesystems: filesystems, abilities: abilities, target: target,
            request: request
        ).solve()
    }

    /// Abilities derived from the filesystems alone: an ext filesystem that fills its partition can grow.
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

    /// Whether a filesystem fills its partition. Data behind its end (a verity tree, an md superblock) would be lost
    /// if it grew; a remainder of some KiB is only the rest of the last block.
    package static func fills(_ filesystem: FilesystemInfo, _ range: ByteRange) -> Bool {
        guard let length = filesystem.byteCount else { return false }
        return length <= range.byteCount && range.byteCount - length < 64 << 10
    }

    /// Whether a partition is for booting, recovery or swap: its size is independent of the disk's.
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
