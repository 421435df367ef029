// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

extension FATVolume {
    /// A file with the places of its bytes; `nil` if there is none at that path.
    /// - Parameter limit: the largest length in bytes that the caller accepts.
    package func placedFile(_ path: String, limit: Int) throws(FilesystemError) -> PlacedFile? {
        let entry: FATEntry?
        do throws(FilesystemError) { entry = try find(path) } catch {
            if case .notFound = error { return nil }
            throw error
        }
        guard let entry, !entry.isFolder else { return nil }
        let bytes = try readFile(path, limit: limit)
        guard !bytes.isEmpty else { return try PlacedFile(bytes: [], ranges: []) }
        var table = FATTable(volume, boot)
        let count = (UInt64(bytes.count) + boot.clusterSize - 1) / boot.clusterSize
        let clusters = try table.chain(from: entry.firstCluster, limit: count)
        return try PlacedFile(
            bytes: bytes,
            ranges: clusters.map { cluster in
                let offset = boot.offset(ofCluster: UInt64(cluster))
                return offset..<offset + boot.clusterSize
            })
    }

    /// Whether there is a file or folder at a path.
    package func exists(_ path: String) throws(FilesystemError) -> Bool {
        do throws(FilesystemError) { return try find(path) != nil } catch {
            if case .notFound = error { return false }
            throw error
        }
    }
}
