// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// Where every partition goes on a target.
public struct DiskLayout: Codable, Equatable, Sendable {
    /// One partition's way.
    public struct Placement: Codable, Equatable, Sendable {
        /// Its number.
        public var number: Int
        /// Where it was, in bytes.
        public var from: ByteRange
        /// Where it goes, in bytes.
        public var to: ByteRange

        /// Describes a partition's way.
        public init(number: Int, from: ByteRange, to: ByteRange) {
            self.number = number
            self.from = from
            self.to = to
        }

        /// Whether it takes more room than it had.
        public var isGrown: Bool { to.byteCount > from.byteCount }
        /// Whether it starts elsewhere.
        public var isMoved: Bool { to.lowerBound != from.lowerBound }
    }

    /// The partitions by number.
    public var placements: [Placement]
    /// What a person should know.
    public var remarks: [String]

    /// Describes a layout.
    public init(placements: [Placement], remarks: [String] = []) {
        self.placements = placements
        self.remarks = remarks
    }
}

/// How a layout follows the size of the target.
public enum LayoutPolicy: String, Codable, Sendable, CaseIterable {
    /// Sizes as captured.
    case keep
    /// The last partition that can grow takes what the target adds.
    case grow
}

/// Why a layout cannot be made.
public struct LayoutError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The least size of a target that would do, in bytes.
    public var leastByteCount: UInt64
    /// The size of the target in bytes.
    public var targetByteCount: UInt64

    /// Names both sizes.
    public init(leastByteCount: UInt64, targetByteCount: UInt64) {
        self.leastByteCount = leastByteCount
        self.targetByteCount = targetByteCount
    }

    /// One sentence for a person.
    public var description: String {
        "the target is too small: it has \(targetByteCount) bytes (\(ByteText.rounded(targetByteCount))), and at least "
            + "\(leastByteCount) bytes (\(ByteText.rounded(leastByteCount))) are needed"
    }
}

/// Decides where partitions go. Pure: no disk is touched.
public enum LayoutPlanner {
    /// A layout of `table` on a target.
    /// - Parameters:
    ///   - table: the captured GPT.
    ///   - source: the captured disk.
    ///   - filesystems: what partitions hold, by number.
    ///   - target: the target disk; same logical sector size.
    /// - Throws: `LayoutError` with the least size that would do.
    public static func plan(
        _ table: PartitionTable, source: DiskGeometry, filesystems: [Int: FilesystemInfo], target: DiskGeometry,
        policy: LayoutPolicy
    ) throws(LayoutError) -> DiskLayout {
        let sector = UInt64(target.logicalSectorSize)
        let backupByteCount = table.backupByteCount(on: source)
        let byPlace = table.partitions.sorted { $0.range.lowerBound < $1.range.lowerBound }
        let end = max(byPlace.last?.range.upperBound ?? 0, table.usable.lowerBound)
        let least = end + backupByteCount
        // A file's length need not be a whole number of sectors.
        let targetEnd = target.byteCount - target.byteCount % sector
        guard targetEnd >= least else {
            throw LayoutError(leastByteCount: least, targetByteCount: target.byteCount)
        }
        var layout = DiskLayout(
            placements: table.partitions.map { .init(number: $0.number, from: $0.range, to: $0.range) })
        guard policy == .grow, targetEnd > source.byteCount else { return layout }
        guard let index = byPlace.lastIndex(where: { isGrowable($0, filesystems[$0.number]) }) else {
            layout.remarks.append(
                "no partition can grow: \(ByteText.rounded(targetEnd - source.byteCount)) of the target stay free")
            return layout
        }
        // From the end: each partition behind the one that grows moves up by as much as its alignment allows.
        let alignment = target.partitionAlignment
        var limit = targetEnd - backupByteCount
        for partition in byPlace[(index + 1)...].reversed() {
            let range = partition.range
            guard limit >= range.byteCount else { return layout }
            let start = (limit - range.byteCount) / alignment * alignment
            // Never towards the front: then there was nothing to gain.
            guard start >= range.lowerBound else { return layout }
            layout.place(partition.number, at: start..<start + range.byteCount)
            limit = start
        }
        let grown = byPlace[index]
        // What stands behind starts aligned; where nothing does, the end is rounded to the alignment too.
        let newEnd = limit / alignment * alignment
        if newEnd > grown.range.upperBound {
            layout.place(grown.number, at: grown.range.lowerBound..<newEnd)
        } else {
            layout.placements = table.partitions.map { .init(number: $0.number, from: $0.range, to: $0.range) }
        }
        return layout
    }

    /// Whether a filesystem fills its place. What stands behind its end (a verity tree, an md superblock) would be lost if it
    /// grew; some KiB are only what is left of the last block.
    public static func fills(_ filesystem: FilesystemInfo, _ range: ByteRange) -> Bool {
        guard let length = filesystem.byteCount else { return false }
        return length <= range.byteCount && range.byteCount - length < 64 << 10
    }

    /// Whether a partition may take more room than it had.
    static func isGrowable(_ partition: Partition, _ filesystem: FilesystemInfo?) -> Bool {
        guard let filesystem, filesystem.isExt, fills(filesystem, partition.range) else { return false }
        // What lies in the first MiB is written last (the commit point), so it cannot be resized before.
        guard partition.range.lowerBound >= 1 << 20 else { return false }
        let special = [
            PartitionType.efiSystem, PartitionType.biosBoot, PartitionType.extendedBoot, PartitionType.linuxSwap,
            PartitionType.microsoftReserved, PartitionType.windowsRecovery,
        ]
        let isBoot =
            filesystem.lastMountPoint == "/boot"
            || [partition.name, filesystem.label ?? ""].contains { ["boot", "/boot"].contains($0.lowercased()) }
        return !special.contains(partition.typeGUID.description) && !isBoot
    }
}

extension DiskLayout {
    fileprivate mutating func place(_ number: Int, at range: ByteRange) {
        for index in placements.indices where placements[index].number == number { placements[index].to = range }
    }
}
