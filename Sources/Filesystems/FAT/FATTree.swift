// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// All files and folders of a FAT with their exact entries: names, times and attributes.
struct FATTree {
    /// A folder: its entries of 32 bytes, without deleted ones.
    struct Folder {
        var bytes: [UInt8]
        /// The parent folder; the root is its own parent.
        var parent: Int
        /// Its part of `items`.
        var items: Range<Int> = 0..<0
    }

    /// The meaning of an entry.
    enum Role: Equatable {
        case file
        /// An index of `folders`.
        case folder(Int)
        /// `.` and `..`.
        case itself, parent
    }

    /// An entry that refers to clusters.
    struct Item: Equatable {
        var role: Role
        /// Its offset in its folder's bytes.
        var slot: Int
        var firstCluster: UInt32
        var byteCount: UInt32
    }

    /// Memory limit for the entries of all folders; 64 MiB are two million.
    private static let byteLimit = 64 << 20
    private static let clusterFields = [20, 21, 26, 27]

    /// The root first, each folder after its parent.
    private(set) var folders: [Folder] = []
    /// In the order of the folders.
    private(set) var items: [Item] = []

    /// Reads all folders.
    init(_ volume: FATVolume) throws(FilesystemError) {
        let bits = volume.boot.entryBits
        var left = Self.byteLimit
        // No cluster belongs to two folders: connected chains would be read repeatedly.
        var clustersLeft = volume.boot.clusterCount
        var seen: Set<UInt32> = bits == 32 ? [volume.boot.rootCluster] : []
        folders = [Folder(bytes: try Self.cleaned(try volume.rootFolderBytes(), &left), parent: 0)]
        var index = 0
        while index < folders.count {
            let start = items.count
            for var item in try Self.items(of: folders[index].bytes, entryBits: bits) {
                if case .folder = item.role {
                    guard seen.insert(item.firstCluster).inserted else {
                        throw .damaged("a folder is in two places")
                    }
                    item.role = .folder(folders.count)
                    let raw = try volume.contents(from: item.firstCluster, atMost: FATVolume.folderByteLimit)
                    let clusters = (UInt64(raw.count) + volume.boot.clusterSize - 1) / volume.boot.clusterSize
                    guard clusters <= clustersLeft else { throw .damaged("folders share clusters") }
                    clustersLeft -= clusters
                    folders.append(Folder(bytes: try Self.cleaned(raw, &left), parent: index))
                }
                items.append(item)
            }
            folders[index].items = start..<items.count
            index += 1
        }
    }

    /// The entries up to the end mark, without deleted ones and the remains of their long names.
    private static func cleaned(_ raw: [UInt8], _ left: inout Int) throws(FilesystemError) -> [UInt8] {
        var bytes: [UInt8] = []
        var longName = 0..<0
        var place = 0
        while place + 32 <= raw.count, raw[place] != 0 {
            let isLongName = raw[place + 11] & 0x3F == 0x0F
            if raw[place] == 0xE5 {
                longName = place + 32..<place + 32
            } else if isLongName {
                longName = (longName.upperBound == place ? longName.lowerBound : place)..<place + 32
            } else {
                if longName.upperBound == place { bytes += raw[longName] }
                bytes += raw[place..<place + 32]
            }
            place += 32
        }
        guard place < raw.count || UInt64(raw.count) < FATVolume.folderByteLimit else {
            throw .damaged("a folder is longer than the format allows")
        }
        left -= bytes.count
        guard left >= 0 else { throw .damaged("it has more files than can be held in memory") }
        return bytes
    }

    /// The entries that have clusters, or can have some.
    private static func items(of bytes: [UInt8], entryBits: Int) throws(FilesystemError) -> [Item] {
        try FilesystemError.parsing { () throws(ParsingError) in
            var items: [Item] = []
            for slot in stride(from: 0, to: bytes.count, by: 32) {
                let attributes = bytes[slot + 11]
                // Parts of long names, and labels.
                if attributes & 0x08 != 0 { continue }
                let high = entryBits == 32 ? UInt32(try bytes.littleEndian(UInt16.self, at: slot + 20)) : 0
                let cluster = high << 16 | UInt32(try bytes.littleEndian(UInt16.self, at: slot + 26))
                let isFolder = attributes & 0x10 != 0
                let role: Role =
                    if bytes[slot] == UInt8(ascii: ".") {
                        bytes[slot + 1] == UInt8(ascii: ".") ? .parent : .itself
                    } else { isFolder ? .folder(0) : .file }
                items.append(
                    Item(
                        role: role, slot: slot, firstCluster: cluster,
                        byteCount: isFolder ? 0 : try bytes.littleEndian(at: slot + 28)))
            }
            return items
        }
    }

    /// A folder's bytes with other first clusters, by the item's index.
    func bytes(of folder: Int, clusterOf: (Int) -> UInt32) -> [UInt8] {
        var bytes = folders[folder].bytes
        for index in folders[folder].items {
            let (slot, cluster) = (items[index].slot, clusterOf(index))
            bytes.setLittleEndian(UInt16(truncatingIfNeeded: cluster >> 16), at: slot + 20)
            bytes.setLittleEndian(UInt16(truncatingIfNeeded: cluster), at: slot + 26)
        }
        return bytes
    }

    /// Whether another tree has the same entries, apart from their places.
    func isSame(as other: FATTree) -> Bool {
        guard folders.count == other.folders.count, items.count == other.items.count else { return false }
        return folders.indices.allSatisfy { index in
            folders[index].parent == other.folders[index].parent && folders[index].items == other.folders[index].items
                && bytes(of: index) { _ in 0 } == other.bytes(of: index) { _ in 0 }
        }
    }
}
