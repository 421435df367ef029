// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

extension F2FSCheckpoint {
    /// The table whose newer entries a journal contains.
    enum Journal {
        /// The NAT, with the summary of the hot data log.
        case nodes
        /// The SIT, with the summary of the cold data log.
        case segments
    }

    /// SUM_JOURNAL_SIZE: the bytes of a summary block between its 512 entries of 7 bytes and its footer of 5.
    private static let journalByteCount = 507
    private static let summaryByteCount = 3584

    /// A journal in a checkpoint of a clean unmount (`segment.c`, read_compacted_summaries, read_normal_summaries).
    func journal(_ kind: Journal, _ volume: any BlockReader) throws(FilesystemError) -> [UInt8] {
        let (block, place): (UInt64, Int)
        if flags & Flag.compactSummary != 0 {
            guard summaryStart < blockCount else { throw .damaged("its summary lies elsewhere") }
            (block, place) = (summaryStart, kind == .nodes ? 0 : Self.journalByteCount)
        } else {
            // sum_blk_addr: six summaries and a block are at the end of the pack; hot data first, cold data third.
            guard blockCount > 7 else { throw .damaged("its checkpoint has no summaries") }
            (block, place) = (blockCount - 7 + (kind == .nodes ? 0 : 2), Self.summaryByteCount)
        }
        let offset = (start + block) * F2FSSuperblock.blockSize + UInt64(place)
        return try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: offset, count: Self.journalByteCount)
        }
    }
}
