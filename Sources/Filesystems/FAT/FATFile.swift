// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// A file of a FAT, read in parts: a unified kernel image is too large to be held whole.
package struct FATFile: Sendable {
    /// Its length in bytes.
    package let byteCount: UInt64
    private let volume: FATVolume
    private let clusters: [UInt32]
    private let path: String

    /// Opens a file. Its chain of clusters must be as long as its entry says.
    /// - Parameter limit: the largest length in bytes that the caller accepts; bounds the memory for the chain.
    package init(_ path: String, in volume: FATVolume, limit: UInt64 = 1 << 30) throws(FilesystemError) {
        guard let entry = try volume.find(path), !entry.isFolder else { throw .wrongKind(path: path, isFolder: true) }
        guard UInt64(entry.byteCount) <= limit else {
            throw .tooLarge(path: path, byteCount: UInt64(entry.byteCount), limit: Int(clamping: limit))
        }
        self.volume = volume
        self.path = path
        byteCount = UInt64(entry.byteCount)
        guard entry.byteCount > 0 else {
            clusters = []
            return
        }
        let size = volume.boot.clusterSize
        let count = (UInt64(entry.byteCount) + size - 1) / size
        var table = FATTable(volume.volume, volume.boot)
        clusters = try table.chain(from: entry.firstCluster, limit: count)
        guard UInt64(clusters.count) == count else {
            throw .damaged("\(path) is longer than its chain of clusters")
        }
    }

    /// The bytes from `offset` on, fewer at the file's end.
    /// - Parameter count: at most this many bytes.
    package func read(at offset: UInt64, count: Int) throws(FilesystemError) -> [UInt8] {
        guard offset < byteCount, count > 0 else { return [] }
        let end = offset + min(UInt64(count), byteCount - offset)
        let size = volume.boot.clusterSize
        var bytes: [UInt8] = []
        var position = offset
        while position < end {
            let index = Int(position / size)
            let within = position % size
            // Adjacent clusters in one call.
            var next = index + 1
            while next < clusters.count, clusters[next] == clusters[next - 1] + 1, UInt64(next) * size < end {
                next += 1
            }
            let length = min(UInt64(next) * size, end) - position
            let place = volume.boot.offset(ofCluster: UInt64(clusters[index])) + within
            let reader = volume.volume
            bytes += try FilesystemError.reading { () throws(BlockIOError) in
                try reader.readBytes(at: place, count: Int(length))
            }
            position += length
        }
        return bytes
    }

    /// Whether both files hold the same bytes; reads 1 MiB at a time.
    package func isEqual(to other: FATFile) throws(FilesystemError) -> Bool {
        guard byteCount == other.byteCount else { return false }
        var offset: UInt64 = 0
        while offset < byteCount {
            guard try read(at: offset, count: 1 << 20) == other.read(at: offset, count: 1 << 20) else { return false }
            offset += 1 << 20
        }
        return true
    }
}
