// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A chunk: a range of logical addresses and the place of its bytes (`struct btrfs_chunk`). Only chunks whose bytes
/// are contiguous on one device, in one or several copies, are supported.
struct BtrfsChunk: Equatable {
    /// The structure without its stripes, and `struct btrfs_stripe`.
    static let headByteCount = 48
    static let stripeByteCount = 32
    /// BTRFS_BLOCK_GROUP_TYPE_MASK: data, system, metadata.
    static let data: UInt64 = 1 << 0
    static let system: UInt64 = 1 << 1
    static let metadata: UInt64 = 1 << 2

    let logical: ByteRange
    /// Kind of contents and profile (BTRFS_BLOCK_GROUP_*).
    let type: UInt64
    /// The start of each copy on the device.
    let copies: [UInt64]

    /// Reads the chunk with key offset `logicalStart` at `place`.
    /// - Throws: `FilesystemError.damaged` for invalid and for unsupported chunks.
    init(
        _ bytes: [UInt8], at place: Int, logicalStart: UInt64, of superblock: BtrfsSuperblock
    ) throws(FilesystemError) {
        let fields = try FilesystemError.parsing { () throws(ParsingError) in
            (
                length: try bytes.littleEndian(UInt64.self, at: place),  // length
                type: try bytes.littleEndian(UInt64.self, at: place + 24),  // type
                stripeCount: try bytes.littleEndian(UInt16.self, at: place + 44)  // num_stripes
            )
        }
        let sector = UInt64(superblock.sectorSize)
        guard let logical = ByteRange(offset: logicalStart, byteCount: fields.length), !logical.isEmpty,
            logicalStart % sector == 0, fields.length % sector == 0
        else { throw .damaged("its chunk at \(logicalStart) is not valid") }
        guard Self.isPlain(fields.type, stripeCount: fields.stripeCount) else {
            throw .damaged("its chunk at \(logicalStart) is striped, or of a profile that needs several devices")
        }
        var copies: [UInt64] = []
        for index in 0..<Int(fields.stripeCount) {
            let stripe = try FilesystemError.parsing { () throws(ParsingError) in
                let start = place + Self.headByteCount + index * Self.stripeByteCount
                return (
                    device: try bytes.littleEndian(UInt64.self, at: start),  // devid
                    offset: try bytes.littleEndian(UInt64.self, at: start + 8),  // offset
                    uuid: try bytes.bytes(at: start + 16, count: 16)  // dev_uuid
                )
            }
            guard stripe.device == superblock.device.id, stripe.uuid == superblock.device.uuid else {
                throw .damaged("its chunk at \(logicalStart) lies on another device")
            }
            guard stripe.offset % sector == 0, fields.length <= superblock.device.byteCount,
                stripe.offset <= superblock.device.byteCount - fields.length
            else { throw .damaged("its chunk at \(logicalStart) lies outside its device") }
            copies.append(stripe.offset)
        }
        self.logical = logical
        type = fields.type
        self.copies = copies
    }

    /// The range of each copy on the device.
    var physicalRanges: [ByteRange] { copies.map { $0..<$0 + logical.byteCount } }

    /// The bytes of an item with that many stripes.
    var itemByteCount: Int { Self.headByteCount + copies.count * Self.stripeByteCount }

    /// The copies of a range of logical addresses inside the chunk.
    func places(of range: ByteRange) -> [ByteRange] {
        copies.map { $0 + (range.lowerBound - logical.lowerBound)..<$0 + (range.upperBound - logical.lowerBound) }
    }

    /// Whether every stripe is a whole copy: single, DUP, RAID1 with 2 to 4 copies, and RAID0 of one stripe.
    private static func isPlain(_ type: UInt64, stripeCount: UInt16) -> Bool {
        let kind = type & (data | system | metadata)
        guard kind != 0, kind & system == 0 || kind == system else { return false }
        switch type & ~(data | system | metadata) {
        case 0, 1 << 3: return stripeCount == 1  // single, BTRFS_BLOCK_GROUP_RAID0
        case 1 << 4, 1 << 5: return stripeCount == 2  // _RAID1, _DUP
        case 1 << 9: return stripeCount == 3  // _RAID1C3
        case 1 << 10: return stripeCount == 4  // _RAID1C4
        default: return false
        }
    }
}

/// All chunks of a filesystem by logical address.
struct BtrfsChunkMap {
    /// Larger maps (256 TiB in chunks of 1 GiB) are not built: memory stays bounded.
    static let limit = 1 << 18

    /// Ascending by logical address, disjoint.
    private(set) var chunks: [BtrfsChunk] = []

    init(_ unsorted: [BtrfsChunk]) throws(FilesystemError) {
        chunks = unsorted.sorted { $0.logical.lowerBound < $1.logical.lowerBound }
        for (chunk, next) in zip(chunks, chunks.dropFirst()) where chunk.logical.overlaps(next.logical) {
            throw .damaged("its chunks overlap")
        }
    }

    /// From the superblock (sys_chunk_array: keys, each followed by its chunk): enough to read the chunk tree.
    init(systemChunksOf superblock: BtrfsSuperblock) throws(FilesystemError) {
        let end = Int(superblock.systemChunkByteCount)
        let bytes = Array(superblock.systemChunks.prefix(end))
        var found: [BtrfsChunk] = []
        var place = 0
        while place < end {
            let start = place
            let key = try FilesystemError.parsing { () throws(ParsingError) in try BtrfsKey(bytes, at: start) }
            guard key.type == BtrfsItemType.chunkItem else {
                throw .damaged("its table of system chunks is not valid")
            }
            let chunk = try BtrfsChunk(
                bytes, at: place + BtrfsKey.byteCount, logicalStart: key.offset, of: superblock)
            guard chunk.type & BtrfsChunk.system != 0 else {
                throw .damaged("its table of system chunks is not valid")
            }
            found.append(chunk)
            place += BtrfsKey.byteCount + chunk.itemByteCount
        }
        try self.init(found)
    }

    /// The index of the chunk that covers `range`; `nil` without one.
    func index(covering range: ByteRange) -> Int? {
        var low = 0
        var high = chunks.count
        while low < high {
            let middle = (low + high) / 2
            if chunks[middle].logical.upperBound > range.lowerBound { high = middle } else { low = middle + 1 }
        }
        return low < chunks.count && chunks[low].logical.covers(range) ? low : nil
    }

    /// The copies of a range of logical addresses; empty if it is not inside one chunk.
    func places(of range: ByteRange) -> [ByteRange] {
        index(covering: range).map { chunks[$0].places(of: range) } ?? []
    }
}
