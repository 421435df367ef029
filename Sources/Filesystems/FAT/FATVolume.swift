// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// Reads files of a FAT12, FAT16 or FAT32 without mounting it: EFI system partitions.
///
/// Paths are separated by `/` or `\` and are case-insensitive, as in the original.
package struct FATVolume: Sendable {
    /// "a directory … 65,536 entries" of 32 bytes.
    static let folderByteLimit: UInt64 = 65_536 * 32

    let volume: any BlockReader
    let boot: FATBootSector

    /// Opens the filesystem on `volume`.
    package init(_ volume: any BlockReader) throws(FilesystemError) {
        guard volume.byteCount >= 512 else { throw .notThisFormat("FAT") }
        let sector = try FilesystemError.reading { () throws(BlockIOError) in try volume.readBytes(at: 0, count: 512) }
        guard let boot = (try? FATBootSector(sector)) ?? nil else { throw .notThisFormat("FAT") }
        if let problem = boot.problem(volumeByteCount: volume.byteCount) { throw .damaged(problem) }
        self.volume = volume
        self.boot = boot
    }

    /// The entries of a folder, in their order in it; "" is the root.
    package func entries(in path: String) throws(FilesystemError) -> [FATEntry] {
        guard let entry = try find(path) else { return try rootEntries() }
        guard entry.isFolder else { throw .wrongKind(path: path, isFolder: false) }
        return try entries(of: entry)
    }

    /// All bytes of a file.
    /// - Parameter limit: the largest length that the caller accepts.
    package func readFile(_ path: String, limit: Int) throws(FilesystemError) -> [UInt8] {
        guard let entry = try find(path), !entry.isFolder else { throw .wrongKind(path: path, isFolder: true) }
        guard UInt64(entry.byteCount) <= UInt64(max(0, limit)) else {
            throw .tooLarge(path: path, byteCount: UInt64(entry.byteCount), limit: limit)
        }
        guard entry.byteCount > 0 else { return [] }
        let bytes = try contents(from: entry.firstCluster, atMost: UInt64(entry.byteCount))
        guard bytes.count == Int(entry.byteCount) else {
            throw .damaged("\(path) is longer than its chain of clusters")
        }
        return bytes
    }

    /// The entries of the root folder.
    func rootEntries() throws(FilesystemError) -> [FATEntry] {
        FATFolder.entries(try rootFolderBytes(), entryBits: boot.entryBits)
    }

    /// The entries of a folder that was read from this volume.
    func entries(of folder: FATEntry) throws(FilesystemError) -> [FATEntry] {
        FATFolder.entries(
            try contents(from: folder.firstCluster, atMost: Self.folderByteLimit), entryBits: boot.entryBits)
    }

    func rootFolderBytes() throws(FilesystemError) -> [UInt8] {
        guard boot.entryBits == 32 else {
            return try FilesystemError.reading { () throws(BlockIOError) in
                try volume.readBytes(at: boot.rootFolderOffset, count: Int(boot.rootFolderByteCount))
            }
        }
        return try contents(from: boot.rootCluster, atMost: Self.folderByteLimit)
    }

    /// The entry of a path; `nil` for the root.
    func find(_ path: String) throws(FilesystemError) -> FATEntry? {
        var found: FATEntry?
        for component in path.split(whereSeparator: { $0 == "/" || $0 == "\\" }) {
            if let found, !found.isFolder { throw .notFound(path: path) }
            let wanted = component.lowercased()
            let siblings = if let found { try entries(of: found) } else { try rootEntries() }
            guard
                let next = siblings.first(where: {
                    $0.name.lowercased() == wanted || $0.shortName.lowercased() == wanted
                })
            else { throw .notFound(path: path) }
            found = next
        }
        return found
    }

    /// The first `limit` bytes of a chain, or all of a shorter one.
    func contents(from first: UInt32, atMost limit: UInt64) throws(FilesystemError) -> [UInt8] {
        var pieces = try pieces(from: first, atMost: limit)
        var bytes: [UInt8] = []
        while let piece = try pieces.next() { bytes += piece }
        return bytes
    }

    /// The contents of a chain, 1 MiB at a time.
    func pieces(from first: UInt32, atMost limit: UInt64) throws(FilesystemError) -> FATPieces {
        var table = FATTable(volume, boot)
        return FATPieces(
            volume: volume, boot: boot, limit: limit,
            clusters: try table.chain(from: first, limit: (limit + boot.clusterSize - 1) / boot.clusterSize))
    }
}

/// The contents of a chain of clusters, piece by piece.
struct FATPieces {
    private let volume: any BlockReader
    private let boot: FATBootSector
    private let limit: UInt64
    private let clusters: [UInt32]
    private var index = 0
    private var done: UInt64 = 0

    init(volume: any BlockReader, boot: FATBootSector, limit: UInt64, clusters: [UInt32]) {
        self.volume = volume
        self.boot = boot
        self.limit = limit
        self.clusters = clusters
    }

    /// Adjacent clusters, up to 1 MiB or one cluster; `nil` after the last.
    mutating func next() throws(FilesystemError) -> [UInt8]? {
        guard index < clusters.count, done < limit else { return nil }
        var end = index + 1
        while end < clusters.count, clusters[end] == clusters[end - 1] + 1,
            UInt64(end - index + 1) * boot.clusterSize <= 1 << 20
        {
            end += 1
        }
        let count = min(UInt64(end - index) * boot.clusterSize, limit - done)
        let offset = boot.offset(ofCluster: UInt64(clusters[index]))
        let volume = volume
        let bytes = try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: offset, count: Int(count))
        }
        index = end
        done += count
        return bytes
    }
}
