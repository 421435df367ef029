// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// The layout of a new FAT on a volume: its kind, its units, the lengths of its areas (Microsoft, "FAT: General
/// Overview of On-Disk Format" 1.03, "FAT Data Structure"). Pure.
package struct FATLayout: Equatable, Sendable {
    /// The counts of clusters from which the next kind begins; counts within 16 of them are avoided, because readers
    /// differ there ("… at least 16 clusters on each side").
    private static let (fat16From, fat32From, distance) = (4085 as UInt64, 65_525 as UInt64, 16 as UInt64)

    /// 12, 16 or 32 bits per entry.
    package let kind: FilesystemInfo.Kind
    /// In bytes.
    package let sectorSize: UInt64
    /// The number of whole sectors of the volume.
    package let sectorCount: UInt64
    /// A power of two.
    package let sectorsPerCluster: UInt64
    /// The number of clusters for files and folders.
    package let clusterCount: UInt64
    let reservedSectorCount: UInt64
    let rootEntryCount: UInt64
    let sectorsPerFAT: UInt64

    /// In bytes.
    package var clusterSize: UInt64 { sectorsPerCluster * sectorSize }
    var entryBits: UInt64 { kind == .fat12 ? 12 : kind == .fat16 ? 16 : 32 }
    var fatOffset: UInt64 { reservedSectorCount * sectorSize }
    var fatByteCount: UInt64 { sectorsPerFAT * sectorSize }
    var rootOffset: UInt64 { fatOffset + 2 * fatByteCount }
    var rootByteCount: UInt64 { rootEntryCount * 32 }
    func offset(ofCluster cluster: UInt64) -> UInt64 { rootOffset + rootByteCount + (cluster - 2) * clusterSize }

    /// The layout for a volume; `nil` if it is too small.
    /// - Parameters:
    ///   - sectorSize: of the disk, 512 to 4096 bytes.
    ///   - kind: the preferred kind, used where the volume allows it.
    ///   - rootByteCount: the content of the root folder in bytes.
    package init?(
        volumeByteCount: UInt64, sectorSize: Int, preferring kind: FilesystemInfo.Kind, rootByteCount: UInt64 = 0
    ) {
        guard [512, 1024, 2048, 4096].contains(sectorSize) else { return nil }
        let sector = UInt64(sectorSize)
        let order: [FilesystemInfo.Kind] =
            switch kind {
            case .fat32: [.fat32, .fat16, .fat12]
            case .fat16: [.fat16, .fat32, .fat12]
            default: [.fat12, .fat16, .fat32]
            }
        let made = order.lazy.compactMap { kind in
            Self.clusterSizes(kind, volumeByteCount, sector).lazy.compactMap { clusterSize in
                Self(
                    kind, volumeByteCount, sector, sectorsPerCluster: clusterSize / sector, rootByteCount: rootByteCount
                )
            }.first
        }.first
        guard let made else { return nil }
        self = made
    }

    /// FAT32 with the sizes of Windows and mkfs.fat for the size of the volume; the others with
    /// the smallest possible ones.
    private static func clusterSizes(
        _ kind: FilesystemInfo.Kind, _ volumeByteCount: UInt64, _ sector: UInt64
    ) -> [UInt64] {
        let sizes = (9...15).map { 1 << $0 as UInt64 }.filter { $0 >= sector }
        guard kind == .fat32 else { return sizes }
        let usual: UInt64 =
            switch volumeByteCount {
            case ...(260 << 20): 512
            case ...(8 << 30): 4 << 10
            case ...(16 << 30): 8 << 10
            case ...(32 << 30): 16 << 10
            default: 32 << 10
            }
        return [max(usual, sector)]
    }

    private init?(
        _ kind: FilesystemInfo.Kind, _ volumeByteCount: UInt64, _ sector: UInt64, sectorsPerCluster: UInt64,
        rootByteCount: UInt64
    ) {
        self.kind = kind
        sectorSize = sector
        self.sectorsPerCluster = sectorsPerCluster
        sectorCount = min(volumeByteCount / sector, UInt64(UInt32.max))
        // 32 and 1 are the specification's values; the root of FAT12 and FAT16 gets four times the usual 512 entries,
        // and more where that of a FAT32 has grown, up to the limit of BPB_RootEntCnt.
        let rootEntries = (rootByteCount / sector + 1) * sector / 32
        reservedSectorCount = kind == .fat32 ? 32 : 1
        rootEntryCount = kind == .fat32 ? 0 : min(max(2048, rootEntries), 65_536 - 4096 / 32)
        let bits: UInt64 = kind == .fat12 ? 12 : kind == .fat16 ? 16 : 32
        let fixed = reservedSectorCount + rootEntryCount * 32 / sector
        guard sectorCount > fixed else { return nil }
        // For as many clusters as without FATs: slightly longer than needed.
        let most = (sectorCount - fixed) / sectorsPerCluster
        sectorsPerFAT = (((most + 2) * bits + 7) / 8 + sector - 1) / sector
        guard sectorCount > fixed + 2 * sectorsPerFAT else { return nil }
        clusterCount = (sectorCount - fixed - 2 * sectorsPerFAT) / sectorsPerCluster
        let allowed =
            switch kind {
            case .fat12: 16...Self.fat16From - 1 - Self.distance
            case .fat16: Self.fat16From + Self.distance...Self.fat32From - 1 - Self.distance
            default: Self.fat32From + Self.distance...0x0FFF_FFF4
            }
        guard allowed.contains(clusterCount), kind == .fat32 || sectorsPerFAT <= UInt64(UInt16.max) else { return nil }
    }

    /// The upper bound of clusters of `clusterSize` bytes for files that took `usedByteCount` in
    /// clusters of another size.
    package static func mostClusters(
        of clusterSize: UInt64, usedByteCount: UInt64, oldClusterSize: UInt64
    ) -> UInt64 {
        // Each old cluster may be the only one of a file.
        let old = max(1, min(oldClusterSize, clusterSize))
        return usedByteCount / old + (usedByteCount % old == 0 ? 0 : 1)
    }
}
