// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A new FAT with the files of another one, for a disk with another sector size (Microsoft, "FAT: General Overview of
/// On-Disk Format" 1.03). It keeps the serial number, the label, and every entry with its exact names, times and
/// attributes; files and folders are contiguous. This only builds bytes: the caller writes them.
package struct FATRemake {
    private let source: FATVolume
    private let tree: FATTree
    private let layout: FATLayout
    private let hiddenSectors: UInt32
    /// The first clusters of items.
    private var itemClusters: [UInt32] = []
    /// The first clusters of folders; 0 for a root with a fixed place.
    private var folderClusters: [UInt32] = []
    /// The last clusters of all chains, ascending.
    private var lastClusters: [UInt32] = []
    private var nextCluster: UInt64 = 2

    /// Reads the source and assigns places.
    /// - Parameters:
    ///   - source: the FAT that it replaces.
    ///   - layout: the layout of the new FAT.
    ///   - hiddenSectors: the number of sectors before its partition.
    /// - Throws: `FilesystemError.damaged` if the source is invalid, or has more than fits.
    package init(of source: FATVolume, layout: FATLayout, hiddenSectors: UInt32) throws(FilesystemError) {
        self.source = source
        self.layout = layout
        self.hiddenSectors = hiddenSectors
        tree = try FATTree(source)
        for (index, folder) in tree.folders.enumerated() {
            if index == 0, layout.kind != .fat32 {
                guard folder.bytes.count <= Int(layout.rootByteCount) else {
                    throw .damaged("its root folder has more entries than a new FAT16 holds")
                }
                folderClusters.append(0)
            } else {
                folderClusters.append(try allocate(UInt64(max(32, folder.bytes.count))))
            }
        }
        for item in tree.items {
            itemClusters.append(item.role == .file && item.byteCount > 0 ? try allocate(UInt64(item.byteCount)) : 0)
        }
    }

    /// The length of the root folder of a FAT in bytes.
    package static func rootByteCount(of source: FATVolume) throws(FilesystemError) -> UInt64 {
        UInt64(try FATTree(source).folders.first?.bytes.count ?? 0)
    }

    private mutating func allocate(_ byteCount: UInt64) throws(FilesystemError) -> UInt32 {
        let first = nextCluster
        let end = first + (byteCount + layout.clusterSize - 1) / layout.clusterSize
        guard end <= layout.clusterCount + 2 else { throw .damaged("its files do not fit into the new FAT") }
        lastClusters.append(UInt32(end - 1))
        nextCluster = end
        return UInt32(first)
    }

    /// Passes on all bytes of the new FAT, in whole sectors; bytes that it does not pass on do not matter.
    /// - Parameters:
    ///   - write: takes bytes and their offset, in bytes of the volume.
    ///   - zero: zeroes a range of the volume.
    package func run(
        write: (_ bytes: [UInt8], _ offset: UInt64) throws -> Void, zero: (ByteRange) throws -> Void
    ) throws {
        for copy in 0..<2 as Range<UInt64> {
            let start = layout.fatOffset + copy * layout.fatByteCount
            let written = try writeTable { try write($0, start + $1) }
            if written < layout.fatByteCount { try zero(start + written..<start + layout.fatByteCount) }
        }
        for index in tree.folders.indices {
            let bytes = tree.bytes(of: index) { item in cluster(of: item, in: index) }
            if folderClusters[index] == 0 {
                try write(padded(bytes, toMultipleOf: layout.rootByteCount), layout.rootOffset)
            } else {
                let offset = layout.offset(ofCluster: UInt64(folderClusters[index]))
                try write(padded(bytes, toMultipleOf: layout.clusterSize), offset)
            }
        }
        for (index, item) in tree.items.enumerated() where item.role == .file && item.byteCount > 0 {
            var offset = layout.offset(ofCluster: UInt64(itemClusters[index]))
            var left = UInt64(item.byteCount)
            var pieces = try source.pieces(from: item.firstCluster, atMost: left)
            // Contents arrive in pieces of the source's clusters and are passed on in whole clusters of the new one.
            var rest: [UInt8] = []
            while let piece = try pieces.next() {
                left -= UInt64(piece.count)
                rest += piece
                let whole = rest.count - rest.count % Int(layout.clusterSize)
                guard whole > 0 else { continue }
                try write(Array(rest[..<whole]), offset)
                offset += UInt64(whole)
                rest.removeFirst(whole)
            }
            guard left == 0 else { throw FilesystemError.damaged("a file is longer than its chain of clusters") }
            if !rest.isEmpty { try write(padded(rest, toMultipleOf: layout.clusterSize), offset) }
        }
        try write(reservedArea(), 0)
    }

    /// Whether the written FAT has the same entries and contents: `volume` is read again.
    package func isThere(_ volume: FATVolume) throws(FilesystemError) -> Bool {
        let made = try FATTree(volume)
        guard made.isSame(as: tree), volume.boot.serialNumber == source.boot.serialNumber else { return false }
        for (item, other) in zip(tree.items, made.items) where item.role == .file && item.byteCount > 0 {
            let count = UInt64(item.byteCount)
            var pieces = try source.pieces(from: item.firstCluster, atMost: count)
            var others = try volume.pieces(from: other.firstCluster, atMost: count)
            // Both readers return up to 1 MiB or one cluster, in different pieces.
            var (left, right): ([UInt8], [UInt8]) = ([], [])
            var compared: UInt64 = 0
            while compared < count {
                if left.isEmpty { left = try pieces.next() ?? [] }
                if right.isEmpty { right = try others.next() ?? [] }
                let length = min(left.count, right.count)
                guard length > 0, left[..<length] == right[..<length] else { return false }
                left.removeFirst(length)
                right.removeFirst(length)
                compared += UInt64(length)
            }
        }
        return true
    }

    private func cluster(of item: Int, in folder: Int) -> UInt32 {
        switch tree.items[item].role {
        case .file: itemClusters[item]
        case .folder(let index): folderClusters[index]
        case .itself: folderClusters[folder]
        // "… set to zero if the parent is the root directory".
        case .parent: tree.folders[folder].parent == 0 ? 0 : folderClusters[tree.folders[folder].parent]
        }
    }

    /// At least one unit: an empty folder ends with its first entry.
    private func padded(_ bytes: [UInt8], toMultipleOf unit: UInt64) -> [UInt8] {
        let wanted = max(1, (UInt64(bytes.count) + unit - 1) / unit) * unit
        return bytes + [UInt8](repeating: 0, count: Int(wanted) - bytes.count)
    }

    // MARK: the table and the front

    /// Writes the used entries, in whole sectors; returns the number of bytes.
    private func writeTable(_ write: ([UInt8], UInt64) throws -> Void) throws -> UInt64 {
        let bits = layout.entryBits
        // Pairs of 12-bit entries, and whole sectors, in every batch.
        let batch = layout.sectorSize * 8 * 32
        var next = lastClusters.makeIterator()
        var nextLast = next.next()
        var cluster: UInt64 = 0
        var written: UInt64 = 0
        while cluster < nextCluster {
            let end = min(cluster + batch, nextCluster)
            var bytes = [UInt8](repeating: 0, count: Int((end - cluster) * bits + 7) / 8 + 4)
            for number in cluster..<end {
                let value: UInt32
                if number < 2 {
                    // The media byte; then an end mark with the bits for "cleanly unmounted" and "no errors".
                    value = number == 0 ? 0x0FFF_FFF8 : 0x0FFF_FFFF
                } else if nextLast.map(UInt64.init) == number {
                    value = 0x0FFF_FFFF
                    nextLast = next.next()
                } else {
                    value = UInt32(number + 1)
                }
                let bit = (number - cluster) * bits
                let at = Int(bit / 8)
                switch bits {
                case 12:
                    let both = UInt16(bytes[at]) | UInt16(bytes[at + 1]) << 8
                    let part = UInt16(value & 0xFFF)
                    bytes.setLittleEndian(bit % 8 == 0 ? both | part : both | part << 4, at: at)
                case 16: bytes.setLittleEndian(UInt16(value & 0xFFFF), at: at)
                default: bytes.setLittleEndian(value, at: at)
                }
            }
            bytes.removeLast(4)
            let rest = bytes.count % Int(layout.sectorSize)
            if rest > 0 { bytes += [UInt8](repeating: 0, count: Int(layout.sectorSize) - rest) }
            try write(bytes, written)
            written += UInt64(bytes.count)
            cluster = end
        }
        return written
    }

    private func reservedArea() throws -> [UInt8] {
        let old = try source.volume.readBytes(at: 0, count: 512)
        return FATFront(
            layout: layout, name: Array(old[3..<11]), serialNumber: source.boot.serialNumber,
            label: source.boot.label ?? Array("NO NAME    ".utf8), hiddenSectors: hiddenSectors,
            rootCluster: layout.kind == .fat32 ? folderClusters[0] : 0, nextCluster: nextCluster
        ).bytes()
    }
}
