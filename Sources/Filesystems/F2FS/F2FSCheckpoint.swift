// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The live one of an F2FS's two checkpoint packs (`f2fs_fs.h`, struct f2fs_checkpoint; kernel
/// `fs/f2fs/checkpoint.c`, validate_checkpoint).
struct F2FSCheckpoint: Sendable {
    /// CP_…_FLAG.
    enum Flag {
        static let unmounted: UInt32 = 0x1
        static let compactSummary: UInt32 = 0x4
        static let errors: UInt32 = 0x8 | 0x10  // CP_ERROR_FLAG, CP_FSCK_FLAG
        /// Orphans, CRC and no-CRC recovery, NAT bits, trimmed: the map does not depend on them.
        static let harmless: UInt32 = 0x2 | 0x40 | 0x80 | 0x100 | 0x200
    }

    let version: UInt64
    /// The first block of the pack, and its number of blocks.
    let start: UInt64
    let blockCount: UInt64
    let flags: UInt32
    let validBlockCount: UInt64
    /// The number of nodes, and of inodes among them.
    let validNodeCount: UInt64
    let validInodeCount: UInt64
    let summaryStart: UInt64
    /// For each of the three node logs: its current segment, and the next block in it.
    let nodeLogs: [(segment: UInt64, block: UInt64)]
    /// Which of the two copies of each block of the SIT is live; the first block's bit is the highest of byte 0.
    let sitVersions: [UInt8]
    /// Likewise for the NAT.
    let natVersions: [UInt8]

    /// CRC-32 with the magic number as its seed, without inversion (f2fs_crc32).
    static func checksum(_ bytes: [UInt8]) -> UInt32 { CRC32.iso.update(F2FSSuperblock.magic, bytes) }

    /// The pack with the higher version among the complete ones.
    static func live(
        _ volume: any BlockReader, _ superblock: F2FSSuperblock
    ) throws(FilesystemError) -> F2FSCheckpoint {
        let first = superblock.areas[0]
        var packs: [F2FSCheckpoint] = []
        for start in [first, first + F2FSSuperblock.segmentBlockCount] {
            if let pack = try F2FSCheckpoint(volume, superblock, start) { packs.append(pack) }
        }
        // ver_after: the counter may wrap.
        guard let best = packs.max(by: { Int64(bitPattern: $1.version &- $0.version) > 0 }) else {
            throw .damaged("neither of its checkpoints is whole")
        }
        return best
    }

    /// `nil` for an incomplete pack: its write was interrupted.
    private init?(
        _ volume: any BlockReader, _ superblock: F2FSSuperblock, _ start: UInt64
    ) throws(FilesystemError) {
        func block(_ address: UInt64) throws(FilesystemError) -> [UInt8] {
            try FilesystemError.reading { () throws(BlockIOError) in
                try volume.readBytes(at: address * F2FSSuperblock.blockSize, count: Int(F2FSSuperblock.blockSize))
            }
        }
        let head = try block(start)
        guard Self.isWhole(head) else { return nil }
        let total = UInt64((try? head.littleEndian(UInt32.self, at: 136)) ?? 0)  // cp_pack_total_block_count
        guard total >= 2, total <= F2FSSuperblock.segmentBlockCount else { return nil }
        let tail = try block(start + total - 1)
        guard Self.isWhole(tail), tail[..<8] == head[..<8] else { return nil }
        self.start = start
        blockCount = total
        // The SIT's part of the version bitmaps has its own blocks if there is a payload (__bitmap_ptr).
        var payload: [UInt8] = []
        guard superblock.payloadBlockCount < total else { throw .damaged("its checkpoint has no room for its payload") }
        for index in 0..<superblock.payloadBlockCount { payload += try block(start + 1 + index) }
        let sitBlocks = superblock.segmentCounts[1] / 2 * F2FSSuperblock.segmentBlockCount
        let natBlocks = superblock.segmentCounts[2] / 2 * F2FSSuperblock.segmentBlockCount
        let bitmaps = payload.isEmpty ? Array(head[192..<4092]) : payload
        do throws(ParsingError) {
            version = try head.littleEndian(UInt64.self, at: 0)  // checkpoint_ver
            validBlockCount = try head.littleEndian(UInt64.self, at: 16)  // valid_block_count
            flags = try head.littleEndian(UInt32.self, at: 132)  // ckpt_flags
            validNodeCount = UInt64(try head.littleEndian(UInt32.self, at: 144))  // valid_node_count
            validInodeCount = UInt64(try head.littleEndian(UInt32.self, at: 148))  // valid_inode_count
            summaryStart = UInt64(try head.littleEndian(UInt32.self, at: 140))  // cp_pack_start_sum
            var logs: [(UInt64, UInt64)] = []
            for index in 0..<3 {
                logs.append(
                    (
                        UInt64(try head.littleEndian(UInt32.self, at: 36 + 4 * index)),  // cur_node_segno
                        UInt64(try head.littleEndian(UInt16.self, at: 68 + 2 * index))  // cur_node_blkoff
                    ))
            }
            nodeLogs = logs
            let size = UInt64(try head.littleEndian(UInt32.self, at: 156))  // sit_ver_bitmap_bytesize
            guard size == sitBlocks / 8, size <= UInt64(bitmaps.count) else {
                throw .invalid(what: "the size of its SIT version bitmap")
            }
            sitVersions = Array(bitmaps[..<Int(size)])
            let natSize = UInt64(try head.littleEndian(UInt32.self, at: 160))  // nat_ver_bitmap_bytesize
            let natStart = 192 + (payload.isEmpty ? Int(size) : 0)
            guard natSize == natBlocks / 8, natSize <= UInt64(4092 - natStart) else {
                throw .invalid(what: "the size of its NAT version bitmap")
            }
            natVersions = Array(head[natStart..<natStart + Int(natSize)])
        } catch { throw .damaged(error.description) }
    }

    /// The checksum is at the end of the block; elsewhere only with an unsupported layout of the bitmaps.
    private static func isWhole(_ block: [UInt8]) -> Bool {
        (try? block.littleEndian(UInt32.self, at: 164)) == 4092  // checksum_offset
            && (try? block.littleEndian(UInt32.self, at: 4092)) == checksum(Array(block[..<4092]))
    }

    /// Why the SIT of this checkpoint is incomplete; `nil` if it is complete.
    var problem: String? {
        if flags & Flag.errors != 0 { return "it is marked as having errors" }
        if flags & Flag.unmounted == 0 { return "it was not cleanly unmounted" }
        if flags & ~(Flag.unmounted | Flag.compactSummary | Flag.harmless) != 0 {
            return "its checkpoint is of a kind that is not followed here"
        }
        return nil
    }
}
