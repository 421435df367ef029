// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Whether the log of an XFS needs replay (kernel, `fs/xfs/xfs_log_recover.c`: xlog_find_head, xlog_find_tail,
/// xlog_check_unmount_rec; formats in `fs/xfs/libxfs/xfs_log_format.h`).
///
/// The log is a ring of 512-byte blocks. Each starts with the number of the cycle that wrote it, so the head is at
/// the block where that number falls by one. An unmount ends with a record of a single unmount operation; nothing
/// else is clean. In any state of the ring that an orderly writer does not leave, it counts as dirty, even where
/// the kernel would accept it.
struct XFSLog {
    /// The state of the filesystem according to the log.
    enum State: Equatable {
        /// No replay is needed; the next record gets this sequence number or a later one.
        case clean(head: UInt64)
        /// A replay is needed, or the state is unknown; a sentence part.
        case dirty(String)
    }

    /// A log block (BBSIZE), whatever the sector size.
    static let blockSize: UInt64 = 512
    /// The limit of simultaneous writes, in blocks: 8 buffers of 256 KiB (XLOG_TOTAL_REC_SHIFT). Only within that
    /// distance from the head may later writes have completed before older ones.
    private static let windowBlockCount: UInt64 = 4096
    private static let headerMagic: UInt32 = 0xFEED_BABE

    private static let notInPlace = State.dirty("its log holds changes not yet in place")
    private static let odd = State.dirty("its log is not in order")

    private let volume: any BlockReader
    private let superblock: XFSSuperblock
    private let range: ByteRange
    private let blockCount: UInt64

    /// The log of a filesystem with a valid superblock.
    init(_ volume: any BlockReader, _ superblock: XFSSuperblock) {
        self.volume = volume
        self.superblock = superblock
        range = superblock.logRange
        blockCount = range.byteCount / Self.blockSize
    }

    /// The cycle of the first block, which is that of the newest records in any state of the ring.
    func firstCycle() throws(FilesystemError) -> UInt32 { try cycle(of: 0) }

    func state() throws(FilesystemError) -> State {
        guard blockCount >= 2 else { return Self.odd }
        let first = try cycle(of: 0)
        let last = try cycle(of: blockCount - 1)
        if first == 0 {
            // As left by old versions of mkfs. The kernel starts with cycle 1 then.
            for window in windows(around: 0) {
                guard try isZeroed(window) else { return Self.odd }
            }
            return .clean(head: 1 << 32)
        }
        guard first == last || first == last &+ 1 else { return Self.odd }
        let head = first == last ? blockCount : try transition(to: last)
        if try isOrderly(head: head, cycle: first) { return try lastRecordState(head: head, cycle: first) }
        guard first != last, try isFormatted(transition: head, cycle: first) else { return Self.odd }
        return try lastRecordState(head: blockCount, cycle: last)
    }

    // MARK: The head

    /// The first block with cycle `last`, where the first block of the ring has another one
    /// and the last block has that.
    private func transition(to last: UInt32) throws(FilesystemError) -> UInt64 {
        var low: UInt64 = 0
        var high = blockCount - 1
        while high - low > 1 {
            let middle = low + (high - low) / 2
            if try cycle(of: middle) == last { high = middle } else { low = middle }
        }
        return high
    }

    /// Whether all blocks before the head have its cycle, and all others the previous one, within the
    /// distance of simultaneous writes.
    /// - Parameter head: from 1 to the number of blocks.
    private func isOrderly(head: UInt64, cycle: UInt32) throws(FilesystemError) -> Bool {
        for window in windows(around: head) {
            guard try hasCycles(window, head: head, cycle: cycle) else { return false }
        }
        return true
    }

    private func hasCycles(_ blocks: Range<UInt64>, head: UInt64, cycle: UInt32) throws(FilesystemError) -> Bool {
        var block = blocks.lowerBound
        while block < blocks.upperBound {
            let count = min(2048, blocks.upperBound - block)
            let bytes = try read(block, count)
            for index in 0..<count {
                let expected = block + index < head ? cycle : cycle &- 1
                let place = Int(index * Self.blockSize)
                if Self.isWord(expected, bytes, at: place) { continue }
                guard try Self.cycle(bytes, at: place) == expected else { return false }
            }
            block += count
        }
        return true
    }

    /// The blocks around a place of the ring that simultaneous writes could have reached.
    private func windows(around head: UInt64) -> [Range<UInt64>] {
        let reach = Self.windowBlockCount
        guard blockCount > 2 * reach else { return [0..<blockCount] }
        let start = (head + blockCount - reach) % blockCount
        let end = start + 2 * reach
        return end <= blockCount ? [start..<end] : [start..<blockCount, 0..<end - blockCount]
    }

    /// Whether the ring has the layout of xfsprogs in a later cycle than the first, for a new UUID or to empty it
    /// (`libxfs/rdwr.c`, libxfs_log_clear): the record of an unmount at its start, zeros up to the first multiple of
    /// the longest record, and from there to the end records of unmounts of the previous cycle. Because of the zeros,
    /// the kernel takes the first record for an incomplete one, so that the head is at the end of the last.
    /// - Parameter transition: the first block of the previous cycle.
    private func isFormatted(transition: UInt64, cycle: UInt32) throws(FilesystemError) -> Bool {
        guard transition <= 512, case .unmount(let count) = try record(at: 0, cycle: cycle), count < transition,
            try hasCycles(0..<count, head: transition, cycle: cycle), try isZeroed(count..<transition)
        else { return false }
        for window in windows(around: 0) {
            let blocks = window.clamped(to: transition..<blockCount)
            guard try hasCycles(blocks, head: transition, cycle: cycle) else { return false }
        }
        return true
    }

    private func isZeroed(_ blocks: Range<UInt64>) throws(FilesystemError) -> Bool {
        var block = blocks.lowerBound
        while block < blocks.upperBound {
            let count = min(2048, blocks.upperBound - block)
            guard try read(block, count).allSatisfy({ $0 == 0 }) else { return false }
            block += count
        }
        return true
    }

    // MARK: Records

    /// The kind of a record; for an unmount, its number of blocks including its header.
    private enum Record {
        case unmount(blockCount: UInt64)
        case other
        case invalid(State)
    }

    private func lastRecordState(head: UInt64, cycle: UInt32) throws(FilesystemError) -> State {
        guard let start = try lastHeader(before: head) else { return Self.odd }
        switch try record(at: start, cycle: start < head ? cycle : cycle &- 1) {
        case .invalid(let state): return state
        case .other: return Self.notInPlace
        case .unmount(let count):
            guard (start + count) % blockCount == head % blockCount else { return Self.notInPlace }
            // A head at the end of the ring is one at its start in the next cycle.
            return .clean(head: head == blockCount ? UInt64(cycle &+ 1) << 32 : UInt64(cycle) << 32 | head)
        }
    }

    private func record(at start: UInt64, cycle: UInt32) throws(FilesystemError) -> Record {
        let header = try read(start, 1)
        // h_magicno, h_version, h_len, h_lsn, h_num_logops, h_fs_uuid, h_size of struct xlog_rec_header
        let fields = try FilesystemError.parsing { () throws(ParsingError) in
            (
                magic: try header.bigEndian(UInt32.self, at: 0), version: try header.bigEndian(UInt32.self, at: 8),
                byteCount: try header.bigEndian(UInt32.self, at: 12), lsn: try header.bigEndian(UInt64.self, at: 16),
                operationCount: try header.bigEndian(UInt32.self, at: 40),
                uuid: try header.bytes(at: 304, count: 16), size: try header.bigEndian(UInt32.self, at: 320)
            )
        }
        guard fields.magic == Self.headerMagic else { return .invalid(Self.odd) }
        guard fields.uuid == superblock.uuid else { return .invalid(.dirty("its log belongs to another filesystem")) }
        // Further header blocks store the words replaced by cycle numbers in records longer
        // than XLOG_HEADER_CYCLE_SIZE.
        let headerCount: UInt64 =
            superblock.hasLogVersion2 && fields.version & 2 != 0 && fields.size > 32768
            ? (UInt64(fields.size) + 32767) / 32768 : 1
        let count = headerCount + (UInt64(fields.byteCount) + Self.blockSize - 1) / Self.blockSize
        guard count > headerCount, count <= blockCount else { return .other }
        guard fields.lsn == UInt64(cycle) << 32 | start else { return .invalid(Self.odd) }
        guard fields.operationCount == 1 else { return .other }
        // oh_clientid and oh_flags of struct xlog_op_header: XFS_LOG, XLOG_UNMOUNT_TRANS
        let operation = try read((start + headerCount) % blockCount, 1)
        return operation[8] == 0xAA && operation[9] & 0x20 != 0
            ? .unmount(blockCount: count) : .other
    }

    /// The place of the nearest record header before the head: no record is longer than the window.
    private func lastHeader(before head: UInt64) throws(FilesystemError) -> UInt64? {
        var distance: UInt64 = 1
        while distance <= min(Self.windowBlockCount, blockCount) {
            let block = (head + blockCount - distance) % blockCount
            let bytes = try read(block, 1)
            let word = try FilesystemError.parsing { () throws(ParsingError) in
                try bytes.bigEndian(UInt32.self, at: 0)
            }
            if word == Self.headerMagic { return block }
            distance += 1
        }
        return nil
    }

    // MARK: Blocks

    private func cycle(of block: UInt64) throws(FilesystemError) -> UInt32 {
        try Self.cycle(try read(block, 1), at: 0)
    }

    /// The cycle of a block: its first word, or the second in a record header, which starts with the magic number.
    private static func cycle(_ bytes: [UInt8], at offset: Int) throws(FilesystemError) -> UInt32 {
        try FilesystemError.parsing { () throws(ParsingError) in
            let word = try bytes.bigEndian(UInt32.self, at: offset)
            return word == headerMagic ? try bytes.bigEndian(UInt32.self, at: offset + 4) : word
        }
    }

    /// Compares the cycle of a block that is no header, without the cost of a parser: called thousands of times.
    private static func isWord(_ word: UInt32, _ bytes: [UInt8], at offset: Int) -> Bool {
        offset + 4 <= bytes.count && bytes[offset + 3] == UInt8(truncatingIfNeeded: word)
            && bytes[offset + 2] == UInt8(truncatingIfNeeded: word >> 8)
            && bytes[offset + 1] == UInt8(truncatingIfNeeded: word >> 16)
            && bytes[offset] == UInt8(truncatingIfNeeded: word >> 24) && word != headerMagic
    }

    private func read(_ block: UInt64, _ count: UInt64) throws(FilesystemError) -> [UInt8] {
        try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: range.lowerBound + block * Self.blockSize, count: Int(count * Self.blockSize))
        }
    }
}
