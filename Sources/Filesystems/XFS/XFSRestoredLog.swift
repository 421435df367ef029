// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The log of an XFS of version 5 without pending changes, to be rewritten in a later cycle.
///
/// The layout is byte for byte that of `xfs_db -x -c 'logformat -c N'` (xfsprogs, `libxfs/rdwr.c`, libxfs_log_clear):
/// the record of an unmount in the new cycle at the start of the ring, and records of unmounts of the previous cycle
/// in the rest of it. It is written here and not by xfs_db, because it must be done before the commit, even while the
/// front of the filesystem is held back until then, and inside of volumes for which this machine has no node.
package struct XFSRestoredLog: Sendable {
    /// The largest cycle that is written. The kernel stores it in an `int` (struct xlog, l_curr_cycle), and
    /// needs room for further cycles.
    package static let cycleLimit: UInt32 = 1 << 31 - 1 << 27

    /// The range of the log in the volume, in bytes.
    package let range: ByteRange
    /// The cycle of the next record.
    package let cycle: UInt32
    private let superblock: XFSSuperblock
    /// The length of a record with its padding, in blocks.
    private let recordBlocks: Int

    /// - Returns: `nil` if `volume` has no valid XFS of version 5 with a clean internal log.
    package init?(_ volume: any BlockReader) throws(BlockIOError) {
        guard let superblock = try XFSSuperblock.sound(on: volume), superblock.hasChecksums else { return nil }
        // XLOG_MAX_RECORD_BSIZE. A record has at least a header and a block.
        recordBlocks = max(2, Int(superblock.logStripeUnit) / 512)
        guard superblock.logStripeUnit <= 1 || superblock.logStripeUnit % 512 == 0, recordBlocks <= 512,
            UInt64(recordBlocks) < superblock.logRange.byteCount / XFSLog.blockSize
        else { return nil }
        do throws(FilesystemError) {
            guard case .clean(let head) = try XFSLog(volume, superblock).state() else { return nil }
            cycle = UInt32(truncatingIfNeeded: head >> 32)
        } catch {
            _ = try error.reasonForWhole()
            return nil
        }
        self.superblock = superblock
        range = superblock.logRange
    }

    /// The cycle of the log of an XFS on `volume`, clean or not; `nil` if it cannot be read.
    package static func cycle(on volume: any BlockReader) -> UInt32? {
        guard let superblock = (try? XFSSuperblock.sound(on: volume)) ?? nil else { return nil }
        return try? XFSLog(volume, superblock).firstCycle()
    }

    /// Whether `volume` has an XFS of version 4: it has no logged sequence numbers and needs no newer log.
    package static func isVersion4(_ volume: any BlockReader) throws(BlockIOError) -> Bool {
        try XFSSuperblock.sound(on: volume)?.version == 4
    }

    /// Writes the log, in pieces of some MiB.
    /// - Parameters:
    ///   - cycle: more than `self.cycle`, and at most `cycleLimit`.
    ///   - write: takes bytes for an offset of the volume.
    package func format(cycle: UInt32, write: ([UInt8], UInt64) throws -> Void) throws {
        let blockCount = Int(range.byteCount / XFSLog.blockSize)
        var pending = record(cycle: cycle, blockCount: recordBlocks, stripeUnit: Int(superblock.logStripeUnit))
        Self.set(&pending, 0, block: 0, tail: (cycle - 1, blockCount - recordBlocks))
        // All other records except the last have the same length, and differ only in their places.
        let template = record(cycle: cycle - 1, blockCount: recordBlocks, stripeUnit: recordBlocks * 512)
        var offset = range.lowerBound
        var block = recordBlocks
        while block < blockCount {
            let count = min(recordBlocks, blockCount - block)
            let start = pending.count
            pending +=
                count == recordBlocks
                ? template : record(cycle: cycle - 1, blockCount: count, stripeUnit: count * 512)
            Self.set(&pending, start, block: block, tail: (cycle - 1, block - count))
            block += count
            if pending.count >= 1 << 20, block < blockCount {
                try write(pending, offset)
                offset += UInt64(pending.count)
                pending.removeAll(keepingCapacity: true)
            }
        }
        // The operation of a last record of one block is cut off.
        try write(Array(pending.prefix(Int(range.upperBound - offset))), offset)
    }

    /// Whether `volume` now has a clean log in that cycle.
    package static func isClean(_ volume: any BlockReader, cycle: UInt32) throws(BlockIOError) -> Bool {
        try XFSRestoredLog(volume)?.cycle == cycle
    }

    /// One record of an unmount, without the fields that depend on its place (kernel, `fs/xfs/libxfs/xfs_log_format.h`:
    /// struct xlog_rec_header, struct xlog_op_header, struct xfs_unmount_log_format).
    /// - Parameter stripeUnit: the padding unit of the record in bytes; 0 or 1 for none.
    private func record(cycle: UInt32, blockCount: Int, stripeUnit: Int) -> [UInt8] {
        // Each header block stores the first words of 32 KiB (XLOG_HEADER_CYCLE_SIZE).
        let headerCount = stripeUnit > 32768 ? (stripeUnit + 32767) / 32768 : 1
        let total = max(blockCount, headerCount + 1)
        var bytes = [UInt8](repeating: 0, count: total * 512)
        // Every block but the first starts with its cycle.
        for index in 1..<total { Self.set(&bytes, index * 512, cycle) }
        Self.set(&bytes, 0, 0xFEED_BABE)  // h_magicno
        Self.set(&bytes, 4, cycle)  // h_cycle
        Self.set(&bytes, 8, 2)  // h_version
        Self.set(&bytes, 12, UInt32(max(1024, stripeUnit) - headerCount * 512))  // h_len
        Self.set(&bytes, 16, cycle)  // h_lsn
        Self.set(&bytes, 36, .max)  // h_prev_block
        Self.set(&bytes, 40, 1)  // h_num_logops
        // h_cycle_data: oh_tid, where the block of the operation has the cycle.
        Self.set(&bytes, 44, 0xB0C0_D0D0)
        Self.set(&bytes, 300, 1)  // h_fmt: XLOG_FMT_LINUX_LE
        bytes.replaceSubrange(304..<320, with: superblock.uuid)  // h_fs_uuid
        Self.set(&bytes, 320, UInt32(max(stripeUnit, 32768)))  // h_size
        let operation = headerCount * 512
        Self.set(&bytes, operation + 4, 8)  // oh_len
        bytes[operation + 8] = 0xAA  // oh_clientid: XFS_LOG
        bytes[operation + 9] = 0x20  // oh_flags: XLOG_UNMOUNT_TRANS
        // The payload is in the byte order given by h_fmt: XLOG_UNMOUNT_TYPE, "Un".
        bytes[operation + 12] = 0x6E
        bytes[operation + 13] = 0x55
        return bytes
    }

    /// The fields of a record's header that depend on its place: h_lsn and h_tail_lsn.
    private static func set(_ bytes: inout [UInt8], _ start: Int, block: Int, tail: (cycle: UInt32, block: Int)) {
        set(&bytes, start + 20, UInt32(block))
        set(&bytes, start + 24, tail.cycle)
        set(&bytes, start + 28, UInt32(tail.block))
    }

    /// Big-endian.
    private static func set(_ bytes: inout [UInt8], _ offset: Int, _ value: UInt32) {
        for index in 0..<4 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt32(24 - 8 * index)) }
    }
}

extension XFSSuperblock {
    /// The superblock at the start of `volume`; `nil` without a valid one.
    static func sound(on volume: any BlockReader) throws(BlockIOError) -> XFSSuperblock? {
        guard volume.byteCount >= UInt64(maximumSectorSize) else { return nil }
        let bytes = try volume.readBytes(at: 0, count: maximumSectorSize)
        guard let superblock = (try? XFSSuperblock(bytes)) ?? nil, superblock.hasValidSectorSize,
            superblock.problem(sector: Array(bytes[..<Int(superblock.sectorSize)]), volumeByteCount: volume.byteCount)
                == nil
        else { return nil }
        return superblock
    }
}
