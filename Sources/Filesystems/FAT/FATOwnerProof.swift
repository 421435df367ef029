// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Compares the map of a FAT with its folders: every cluster of a chain that starts at an entry must be in it. The
/// first contradiction ends the work as `FilesystemError.damaged`.
///
/// The FATs are both the allocation map and the chains here: the contradiction is a chain that reaches a cluster
/// that both FATs mark as free.
struct FATOwnerProof {
    private static let mostFolders = 1 << 20

    private let volume: FATVolume
    private let map: AllocationMap
    private var table: FATTable
    /// No cluster belongs to two files.
    private var clustersLeft: UInt64

    init(_ volume: FATVolume, _ map: AllocationMap) {
        self.volume = volume
        self.map = map
        table = FATTable(volume.volume, volume.boot)
        clustersLeft = map.usedByteCount / volume.boot.clusterSize
    }

    mutating func run() throws(FilesystemError) {
        let bits = volume.boot.entryBits
        var paths = OwnerPaths()
        // Each at its index in `paths`.
        var folders: [UInt32] = [volume.boot.rootCluster]
        var index = 0
        while index < folders.count {
            let bytes =
                if index == 0, bits != 32 { try volume.rootFolderBytes() } else {
                    try folder(folders[index]) { "the folder \(paths.text(in: index))" }
                }
            for entry in FATFolder.entries(bytes, entryBits: bits) {
                if entry.isFolder {
                    guard folders.count < Self.mostFolders else { throw .damaged("it has too many folders") }
                    folders.append(entry.firstCluster)
                    paths.append(entry.name, in: index)
                } else if entry.byteCount > 0 {
                    try follow(entry.firstCluster, owner: { "the file \(paths.text(entry.name, in: index))" }) { _ in }
                }
            }
            index += 1
        }
    }

    private mutating func folder(_ first: UInt32, owner: () -> String) throws(FilesystemError) -> [UInt8] {
        let limit = FATVolume.folderByteLimit
        let most = Int(max(1, limit / volume.boot.clusterSize))
        var clusters: [UInt32] = []
        try follow(first, owner: owner) { cluster in if clusters.count < most { clusters.append(cluster) } }
        var pieces = FATPieces(volume: volume.volume, boot: volume.boot, limit: limit, clusters: clusters)
        var bytes: [UInt8] = []
        while let piece = try pieces.next() { bytes += piece }
        return bytes
    }

    /// Follows a chain to its end: clusters outside, and those after a bad cluster, are unreachable for all readers.
    private mutating func follow(
        _ first: UInt32, owner: () -> String, _ body: (UInt32) -> Void
    ) throws(FilesystemError) {
        let boot = volume.boot
        var cluster = UInt64(first)
        while cluster >= 2, cluster < boot.clusterEnd {
            let next = try table.value(cluster)
            if next == 0 {
                let place = boot.offset(ofCluster: cluster)..<boot.offset(ofCluster: cluster + 1)
                guard map.covers(place) else {
                    throw .damaged("\(owner()) uses cluster \(cluster), which the FAT calls free")
                }
                return
            }
            guard clustersLeft > 0 else { throw .damaged("its chains share clusters") }
            clustersLeft -= 1
            body(UInt32(truncatingIfNeeded: cluster))
            cluster = UInt64(next)
        }
    }
}
