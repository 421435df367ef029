// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Reads the segment information table (SIT) of an F2FS: 64 bytes of bitmap per segment (`f2fs_fs.h`, struct
/// f2fs_sit_entry; kernel, `fs/f2fs/segment.c`, build_sit_entries).
struct F2FSMapper {
    private let volume: any BlockReader
    private let superblock: F2FSSuperblock
    private let checkpoint: F2FSCheckpoint

    /// SIT_ENTRY_PER_BLOCK: entries of 74 bytes.
    private static let entriesPerBlock: UInt64 = 55
    private static let entryByteCount = 74

    init(_ volume: any BlockReader, _ superblock: F2FSSuperblock, _ checkpoint: F2FSCheckpoint) {
        self.volume = volume
        self.superblock = superblock
        self.checkpoint = checkpoint
    }

    private func block(_ address: UInt64) throws(FilesystemError) -> [UInt8] {
        try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: address * F2FSSuperblock.blockSize, count: Int(F2FSSuperblock.blockSize))
        }
    }

    /// Whether a file was synced after the checkpoint: the kernel finds such node blocks by their version at the next
    /// place of a node log, even after a checkpoint of a clean unmount (`fs/f2fs/recovery.c`, find_fsync_dnodes;
    /// is_recoverable_dnode). Half of the version suffices for a cautious answer.
    func hasFilesToRecover() throws(FilesystemError) -> Bool {
        for log in checkpoint.nodeLogs {
            guard log.segment < superblock.mainSegmentCount, log.block < F2FSSuperblock.segmentBlockCount else {
                throw .damaged("one of its node logs lies outside it")
            }
            let node = try block(superblock.main + log.segment * F2FSSuperblock.segmentBlockCount + log.block)
            let version = try FilesystemError.parsing { () throws(ParsingError) in
                try node.littleEndian(UInt32.self, at: 4084)  // node_footer.cp_ver
            }
            if version == UInt32(truncatingIfNeeded: checkpoint.version) { return true }
        }
        return false
    }

    /// Everything before and behind the main area, and the valid blocks of each of its segments.
    func map() throws(FilesystemError) -> AllocationMap {
        let newer = try journal()
        let blockSize = F2FSSuperblock.blockSize
        let copyDistance = superblock.segmentCounts[1] / 2 * F2FSSuperblock.segmentBlockCount
        var used = RangeAccumulator()
        used.append(0..<superblock.main * blockSize)
        var validBlockCount: UInt64 = 0
        var nodes: [Range<UInt64>] = []
        var loaded: [UInt8] = []
        for segment in 0..<superblock.mainSegmentCount {
            let (index, place) = segment.quotientAndRemainder(dividingBy: Self.entriesPerBlock)
            if place == 0 {
                guard index < copyDistance, index / 8 < UInt64(checkpoint.sitVersions.count) else {
                    throw .damaged("its SIT is too short")
                }
                // f2fs_test_bit: the highest bit first.
                let isSecond = checkpoint.sitVersions[Int(index / 8)] & (0x80 >> UInt8(index % 8)) != 0
                loaded = try block(superblock.areas[1] + index + (isSecond ? copyDistance : 0))
            }
            let start = Int(place) * Self.entryByteCount
            let entry = newer[segment] ?? Array(loaded[start..<start + Self.entryByteCount])
            let first = superblock.main + segment * F2FSSuperblock.segmentBlockCount
            validBlockCount += try append(entry, firstBlock: first, to: &used, nodes: &nodes)
        }
        // The checkpoint also counts blocks that are reserved and were never written; they have no place yet.
        if validBlockCount < checkpoint.validBlockCount {
            validBlockCount += try F2FSReservations.count(in: nodes, of: volume, superblock)
        }
        guard validBlockCount == checkpoint.validBlockCount else {
            throw .damaged("its SIT does not count as many blocks as its checkpoint")
        }
        let end = superblock.main + superblock.mainSegmentCount * F2FSSuperblock.segmentBlockCount
        used.append(end * blockSize..<volume.byteCount)
        return used.map(byteCount: volume.byteCount)
    }

    /// vblocks: the low ten bits are the number of valid blocks, the higher ones the log of the segment, the last
    /// three of six being those of nodes; valid_map: the highest bit of each byte first.
    private func append(
        _ entry: [UInt8], firstBlock: UInt64, to used: inout RangeAccumulator, nodes: inout [Range<UInt64>]
    ) throws(FilesystemError) -> UInt64 {
        let blocks = try FilesystemError.parsing { () throws(ParsingError) in
            try entry.littleEndian(UInt16.self, at: 0)
        }
        let (count, isOfNodes) = (Int(blocks & 0x3FF), blocks >> 10 >= 3)
        let bitmap = entry[2..<66].map { Self.reversed($0) }
        let size = F2FSSuperblock.blockSize
        let found = Bitmap.forEachRun(in: bitmap, at: 0, bitCount: 512) { run in
            let run = firstBlock + UInt64(run.lowerBound)..<firstBlock + UInt64(run.upperBound)
            used.append(run.lowerBound * size..<run.upperBound * size)
            if isOfNodes { nodes.append(run) }
        }
        guard found == count else { throw .damaged("an entry of its SIT does not count its own blocks") }
        return UInt64(count)
    }

    private static func reversed(_ byte: UInt8) -> UInt8 {
        var (rest, result) = (byte, 0 as UInt8)
        for _ in 0..<8 {
            result = result << 1 | rest & 1
            rest >>= 1
        }
        return result
    }

    /// Entries newer than the SIT.
    private func journal() throws(FilesystemError) -> [UInt64: [UInt8]] {
        let bytes = try checkpoint.journal(.segments, volume)
        var entries: [UInt64: [UInt8]] = [:]
        let count = try FilesystemError.parsing { () throws(ParsingError) in
            Int(try bytes.littleEndian(UInt16.self, at: 0))  // n_sits
        }
        // SIT_JOURNAL_ENTRIES, each after the number of its segment.
        guard count <= (bytes.count - 2) / (Self.entryByteCount + 4) else {
            throw .damaged("its SIT journal is longer than its room")
        }
        for index in 0..<count {
            let place = 2 + index * (Self.entryByteCount + 4)
            let segment = try FilesystemError.parsing { () throws(ParsingError) in
                UInt64(try bytes.littleEndian(UInt32.self, at: place))
            }
            let entry = Array(bytes[place + 4..<place + 4 + Self.entryByteCount])
            guard segment < superblock.mainSegmentCount, entries.updateValue(entry, forKey: segment) == nil else {
                throw .damaged("its SIT journal names segment \(segment)")
            }
        }
        return entries
    }
}
