// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Compares the map of an exFAT with its folders: every cluster that an entry refers to must be in it. The first
/// contradiction ends the work as `FilesystemError.damaged`. Section numbers are those of Microsoft's "exFAT
/// file system specification".
struct ExFATOwnerProof {
    private static let mostFolders = 1 << 20
    /// §6.3.2: the first entry, and SecondaryCount of others.
    private static let largestSet = 256
    /// §7: 256 MiB.
    private static let largestFolder: UInt64 = 256 << 20

    /// The place of contents.
    private struct Place {
        var firstCluster: UInt64
        var clusterCount: UInt64
        /// Whether the clusters are contiguous and not in the FAT (NoFatChain, §6.3.4.2).
        var isContiguous: Bool
    }

    private let volume: any BlockReader
    private let boot: ExFATBootSector
    private let map: AllocationMap
    private var table: ExFATTable
    /// No cluster belongs to two files.
    private var clustersLeft: UInt64
    private var paths = OwnerPaths()
    /// Each at its index in `paths`.
    private var folders: [Place] = []

    init(_ volume: any BlockReader, _ boot: ExFATBootSector, _ map: AllocationMap) {
        self.volume = volume
        self.boot = boot
        self.map = map
        table = ExFATTable(volume, boot)
        clustersLeft = map.usedByteCount / boot.clusterSize
    }

    mutating func run() throws(FilesystemError) {
        let most = max(1, Self.largestFolder / boot.clusterSize)
        folders = [Place(firstCluster: UInt64(boot.rootCluster), clusterCount: most, isContiguous: false)]
        var index = 0
        while index < folders.count {
            var place = folders[index]
            place.clusterCount = min(place.clusterCount, most)
            var runs: [Range<UInt64>] = []
            try check(place, owner: { [paths] in "the folder \(paths.text(in: index))" }) { runs.append($0) }
            var set: [[UInt8]] = []
            reading: for run in runs {
                for cluster in run {
                    if try !look(at: cluster, folder: index, &set) { break reading }
                }
            }
            try take(set, folder: index)
            index += 1
        }
    }

    // MARK: Entries

    /// Processes the entries of a cluster of a folder; `set` is the last entry set, which may
    /// continue in the next cluster.
    /// - Returns: whether more entries of the folder follow.
    private mutating func look(
        at cluster: UInt64, folder: Int, _ set: inout [[UInt8]]
    ) throws(FilesystemError) -> Bool {
        let (volume, boot) = (volume, boot)
        let bytes = try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: boot.offset(ofCluster: cluster), count: Int(boot.clusterSize))
        }
        for offset in stride(from: 0, to: bytes.count, by: 32) {
            let kind = bytes[offset]
            if kind == 0 { return false }  // §6.2.1: the end of the folder
            // §6.2.1.4, §6.2.1.3: in use; secondary
            if kind & 0xC0 == 0xC0 {
                if !set.isEmpty, set.count < Self.largestSet { set.append(Array(bytes[offset..<offset + 32])) }
            } else {
                try take(set, folder: folder)
                set = kind == 0x85 ? [Array(bytes[offset..<offset + 32])] : []  // §7.4
            }
        }
        return true
    }

    /// A file or folder: its entry, the stream extension (§7.6), names (§7.7), and vendor extensions (§7.9).
    private mutating func take(_ set: [[UInt8]], folder: Int) throws(FilesystemError) {
        guard let file = set.first else { return }
        let isFolder = file[4] & 0x10 != 0  // FileAttributes
        let units = set.filter { $0[0] == 0xC1 }.flatMap { entry in
            (0..<15).map { UInt16(entry[2 + 2 * $0]) | UInt16(entry[3 + 2 * $0]) << 8 }
        }
        let name = String(decoding: units.prefix { $0 != 0 }, as: UTF16.self)
        for entry in set where entry[0] == 0xC0 || entry[0] == 0xE1 {
            let (first, byteCount) = try FilesystemError.parsing { () throws(ParsingError) in
                (
                    try entry.littleEndian(UInt32.self, at: ExFATEntry.firstClusterOffset),
                    try entry.littleEndian(UInt64.self, at: ExFATEntry.dataLengthOffset)
                )
            }
            guard entry[1] & 1 != 0, byteCount > 0 else { continue }  // AllocationPossible, DataLength
            let place = Place(
                firstCluster: UInt64(first), clusterCount: (byteCount - 1) / boot.clusterSize + 1,
                isContiguous: entry[1] & 2 != 0)
            if isFolder, entry[0] == 0xC0 {
                guard folders.count < Self.mostFolders else { throw .damaged("it has too many folders") }
                folders.append(place)
                paths.append(name, in: folder)
            } else {
                try check(place, owner: { [paths] in "the file \(paths.text(name, in: folder))" }) { _ in }
            }
        }
    }

    // MARK: Clusters

    /// Checks clusters, and passes on contiguous ones. Clusters outside of the volume cannot be lost.
    private mutating func check(
        _ place: Place, owner: () -> String, _ body: (Range<UInt64>) -> Void
    ) throws(FilesystemError) {
        var cluster = place.firstCluster
        var left = place.clusterCount
        while left > 0, cluster >= 2, cluster < boot.clusterEnd {
            var end = cluster + 1
            var next: UInt64 = 0
            if place.isContiguous {
                end = cluster + min(left, boot.clusterEnd - cluster)
            } else {
                next = try table.entry(cluster)
                // At most the used clusters: a chain that continues through free clusters ends here.
                while next == end, end < boot.clusterEnd, end - cluster < min(left, clustersLeft) {
                    end += 1
                    next = try table.entry(end - 1)
                }
            }
            try require(cluster..<end, owner: owner)
            guard end - cluster <= clustersLeft else { throw .damaged("its files share clusters") }
            clustersLeft -= end - cluster
            left -= end - cluster
            body(cluster..<end)
            cluster = next
        }
    }

    private func require(_ clusters: Range<UInt64>, owner: () -> String) throws(FilesystemError) {
        func isInMap(_ clusters: Range<UInt64>) -> Bool {
            map.covers(boot.offset(ofCluster: clusters.lowerBound)..<boot.offset(ofCluster: clusters.upperBound))
        }
        guard !isInMap(clusters) else { return }
        // The map's first gap after the start.
        let start = boot.offset(ofCluster: clusters.lowerBound)
        let used = map.ranges(in: start..<boot.offset(ofCluster: clusters.upperBound)).first
        let covered = used.map { $0.lowerBound == start ? $0.byteCount / boot.clusterSize : 0 } ?? 0
        throw .damaged(
            "\(owner()) uses cluster \(clusters.lowerBound + covered), which the allocation bitmap calls free")
    }
}
