// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem

/// Keeps a target from looking whole until the commit, and records on it the progress of the restore.
struct UnfinishedTarget {
    private let plan: RestorePlan
    private let writer: TargetWriter
    private var journal: RestoreJournal
    /// The position that an interrupted run of the same plan reached; `nil` for a restore from the start.
    let resumedFrom: UInt64?

    private var target: any BlockWriter { writer.target }
    private var hasJournal: Bool { plan.only == nil && target.byteCount >= RestoreJournal.leastTargetByteCount }

    /// Reads the target's journal; nothing is written.
    /// - Parameter capturedByteCount: the length of the captured disk.
    init(_ plan: RestorePlan, _ writer: TargetWriter, capturedByteCount: UInt64) throws {
        var journal = RestoreJournal(
            sequence: 0, imageUUID: plan.imageUUID, planDigest: try plan.digest(), position: 0,
            diskByteCount: capturedByteCount)
        var resumedFrom: UInt64?
        // Comparisons must read the medium: a page in the cache may be older.
        try writer.target.dropCache()
        if plan.only == nil, let found = RestoreJournal.read(writer.target) {
            // Also continues the sequence of another restore's journal: the new slot must be the newer of the two.
            journal.sequence = found.sequence
            if found.imageUUID == journal.imageUUID, found.planDigest == journal.planDigest {
                journal.position = found.position
                resumedFrom = found.position > 0 ? found.position : nil
            }
        }
        self.plan = plan
        self.writer = writer
        self.journal = journal
        self.resumedFrom = resumedFrom
    }

    // MARK: invalidation

    /// Clears block 0, then the old backup table: from here on the disk boots nothing, and firmware that repairs tables
    /// (EDK2 rewrites a bad primary from a valid backup) finds no backup.
    ///
    /// With `only`, clears the front and the end of the partition, where superblocks are. There is no journal then,
    /// because boot code of the disk may lie in its place; a mark in the partition records the restore.
    func invalidate() throws(BlockIOError) {
        if plan.only != nil {
            try target.writeZeros(writer.area.lowerBound..<writer.direct.lowerBound)
            try target.writeZeros(writer.direct.upperBound..<writer.area.upperBound)
            try target.flush()
            return try markPartition()
        }
        let sector = UInt64(target.logicalSectorSize)
        try target.writeZeros(0..<min(sector, target.byteCount))
        try target.flush()
        // The primary header, and any superblock of an older life of the disk before the journal's slots.
        try target.writeZeros(min(sector, target.byteCount)..<min(RestoreJournal.slotOffsets[0], target.byteCount))
        // The entries and header of the backup, as far as a table of 128 entries reaches.
        let end = target.byteCount - target.byteCount % sector
        let backup = min(end, 128 * 128 + sector)
        try target.writeZeros(end - backup..<end)
        try target.flush()
    }

    /// Marks the partition as being restored, in the part that the commit writes.
    private func markPartition() throws(BlockIOError) {
        let offset = RestoreJournal.slotOffsets[0]
        guard writer.area.byteCount >= RestoreJournal.leastTargetByteCount,
            writer.direct.lowerBound - writer.area.lowerBound >= offset + UInt64(RestoreJournal.slotByteCount)
        else { return }
        let mark = RestoreJournal(
            sequence: 1, imageUUID: plan.imageUUID, planDigest: journal.planDigest, position: 0,
            diskByteCount: writer.area.byteCount)
        try target.writeBytes(mark.slot, at: writer.area.lowerBound + offset)
        try target.flush()
    }

    /// Trims the target, and clears it again: the contents of trimmed blocks, block 0 included, are undefined.
    func trim(_ warnings: inout [String]) throws(BlockIOError) {
        do throws(BlockIOError) { try target.discard(0..<target.byteCount) } catch {
            warnings.append("the target was not trimmed: \(error)")
        }
        try invalidate()
    }

    // MARK: progress

    /// Writes the journal. The data that it records must be flushed before.
    mutating func note() throws(BlockIOError) {
        if hasJournal { try journal.write(to: target) }
    }

    /// Records that everything before `position` of the captured disk is written: first the flush, then the record.
    mutating func advance(to position: UInt64) throws(BlockIOError) {
        guard hasJournal, position > journal.position else { return }
        try target.flush()
        journal.position = position
        try journal.write(to: target)
    }

    /// Records that all data is there; it must be flushed before.
    mutating func noteAllData() throws(BlockIOError) {
        journal.position = journal.diskByteCount
        try note()
    }
}
