// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Reads single inodes of an ext filesystem, and follows names from its root.
struct ExtInodeReader {
    let groups: ExtGroupReader
    private var superblock: ExtSuperblock { groups.superblock }

    init(_ groups: ExtGroupReader) { self.groups = groups }

    /// The inode of that number if it belongs to a file.
    func inode(_ number: UInt32) throws(FilesystemError) -> ExtInode? {
        guard number > 0, number <= superblock.inodeCount else { return nil }
        let group = UInt64(number - 1) / UInt64(superblock.inodesPerGroup)
        let place = UInt64(number - 1) % UInt64(superblock.inodesPerGroup) * UInt64(superblock.inodeSize)
        let table = try groups.descriptor(of: group).inodeTable
        let bytes = try groups.read(
            table + place / groups.blockSize, byteCount: superblock.blockSize, "an inode table")
        let start = Int(place % groups.blockSize)
        guard ExtInode.isInUse(bytes, at: start) else { return nil }
        return try FilesystemError.parsing { () throws(ParsingError) in
            try ExtInode(bytes, at: start, number: number, of: superblock)
        }
    }

    /// Whether the inode bitmap of an initialised group marks it as used.
    func isMarkedUsed(_ number: UInt32) throws(FilesystemError) -> Bool {
        let perGroup = UInt64(superblock.inodesPerGroup)
        let descriptor = try groups.descriptor(of: UInt64(number - 1) / perGroup)
        let index = UInt64(number - 1) % perGroup
        guard !descriptor.inodeTableIsUninitialised,
            index < perGroup - min(perGroup, UInt64(descriptor.unusedInodeCount))
        else { return false }
        let bytes = try groups.read(descriptor.inodeBitmap, byteCount: superblock.blockSize, "an inode bitmap")
        return bytes[Int(index / 8)] >> UInt8(index % 8) & 1 != 0
    }

    /// The first of `numbers` that has a name, according to the folders from the root on ("Directory Entries" §4.3).
    func firstNamed(of numbers: Set<UInt32>) throws(FilesystemError) -> UInt32? {
        var seen: Set<UInt32> = [2]
        var folders: [UInt32] = [2]
        // In a valid filesystem no block belongs to two folders.
        var blocksLeft = superblock.blockCount
        while let number = folders.popLast() {
            guard let folder = try inode(number), folder.isFolder else { continue }
            var found: UInt32?
            func look(_ bytes: [UInt8], from start: Int) {
                Self.forEachEntry(bytes, from: start) { child, kind in
                    if numbers.contains(child) { found = found ?? child }
                    // 0: the filesystem does not record kinds; 2: a folder.
                    if kind == 0 || kind == 2, seen.insert(child).inserted { folders.append(child) }
                }
            }
            // The first four bytes are the number of the parent folder.
            if folder.isInline { look(folder.blockBytes, from: 4) }
            try forEachBlock(of: folder, &blocksLeft) { look($0, from: 0) }
            if let found { return found }
        }
        return nil
    }

    private func forEachBlock(
        of folder: ExtInode, _ blocksLeft: inout UInt64, _ body: ([UInt8]) -> Void
    ) throws(FilesystemError) {
        guard folder.ownsBlocks else { return }
        var waiting = [ExtBlockTree.parts(of: folder)]
        while let parts = waiting.popLast() {
            for block in parts.runs.joined() where block > 0 && block < superblock.blockCount {
                guard blocksLeft > 0 else { throw .damaged("its folders share blocks") }
                blocksLeft -= 1
                body(try groups.read(block, byteCount: superblock.blockSize, "a folder"))
            }
            for node in parts.nodes where node.block > 0 && node.block < superblock.blockCount {
                guard blocksLeft > 0 else { throw .damaged("its folders share blocks") }
                blocksLeft -= 1
                let bytes = try groups.read(node.block, byteCount: superblock.blockSize, "a folder")
                waiting.append(ExtBlockTree.parts(of: bytes, node))
            }
        }
    }

    /// Also processes blocks of a hash tree: their entries contain no inode.
    private static func forEachEntry(_ bytes: [UInt8], from start: Int, _ body: (UInt32, UInt8) -> Void) {
        var place = start
        while place + 8 <= bytes.count, let number = try? bytes.littleEndian(UInt32.self, at: place),
            let length = try? bytes.littleEndian(UInt16.self, at: place + 4), length >= 8
        {
            // inode, name_len, file_type, name; 0xDE: the checksum at the block's end. "." and ".." lead nowhere new.
            let nameLength = bytes[place + 6]
            if number != 0, nameLength > 0, bytes[place + 7] != 0xDE { body(number, bytes[place + 7]) }
            place += Int(length)
        }
    }
}
