// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The block group of a chunk (`struct btrfs_block_group_item`); each chunk has one.
struct BtrfsBlockGroup {
    /// Bytes of extents in it.
    let usedByteCount: UInt64

    /// Reads an item with the key (logical start, BLOCK_GROUP_ITEM, length) and stores it at its chunk's index.
    static func add(
        _ block: BtrfsTreeBlock, _ item: BtrfsTreeBlock.Item, _ chunks: BtrfsChunkMap,
        to groups: inout [BtrfsBlockGroup?]
    ) throws(FilesystemError) {
        let (used, type) = try FilesystemError.parsing { () throws(ParsingError) in
            (
                try block.bytes.littleEndian(UInt64.self, at: item.place),  // used
                try block.bytes.littleEndian(UInt64.self, at: item.place + 16)  // flags
            )
        }
        guard let range = ByteRange(offset: item.key.objectID, byteCount: item.key.offset),
            let index = chunks.index(covering: range), chunks.chunks[index].logical == range,
            item.byteCount == 24, chunks.chunks[index].type == type, used <= range.byteCount, index < groups.count,
            groups[index] == nil
        else { throw .damaged("its block group at \(item.key.objectID) contradicts its chunk tree") }
        groups[index] = BtrfsBlockGroup(usedByteCount: used)
    }
}
