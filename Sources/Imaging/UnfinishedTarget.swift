// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import LinuxSystem

/// Keeps a target from looking whole until the commit, and notes on it how far the restore is.
struct UnfinishedTarget {
    private let plan: RestorePlan
    private let writer: TargetWriter
    private var journal: RestoreJournal
    /// How far an interrupted run of the same plan was; `nil` where the restore starts from the front.
    let resumedFrom: UInt64?

    private var target: any BlockWriter { writer.target }
    private var hasJournal: Bool { plan.only == nil && target.byteCount >= RestoreJournal.leastTargetByteCount }

    /// Reads the journal that the target has; nothing is written.
    /// - Parameter capturedByteCount: the length of the captured disk.
    init(_ plan: RestorePlan, _ writer: TargetWriter, capturedByteCount: UInt64) throws {
        var journal = RestoreJournal(
            sequence: 0, imageUUID: plan.imageUUID, planDigest: try plan.digest(), position: 0,
            diskByteCount: capturedByteCount)
        var resumedFrom: UInt64?
        // What is compared with must be the medium: a page that was cached before may be older than it.
        try (writer.target as? BlockDevice)?.dropCache()
        if plan.only == nil, let found = RestoreJournal.read(writer.target) {
            // Also behind the journal of another restore: ours must be the newer of the two slots.
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

    // MARK: nothing that boots

    /// Block 0 first, then the old backup table: from here on the disk boots nothing, and firmware that repairs tables
    /// (EDK2 rewrites a bad primary from a valid backup) finds nothing to repair with.
    ///
    /// Of one partition alone: its front and its end, where the superblocks are. Boot code of the disk may lie where the
    /// journal would, so there is none; a mark in the partition tells what it holds.
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
        // The primary header, and whatever superblock an older life of the disk has in front of the journal's slots.
        try target.writeZeros(min(sector, target.byteCount)..<min(RestoreJournal.slotOffsets[0], target.byteCount))
        // The entries and header of the backup, as far as a table of 128 entries reaches.
        let end = target.byteCount - target.byteCount % sector
        let backup = min(end, 128 * 128 + sector)
        try target.writeZeros(end - backup..<end)
        try target.flush()
    }

    /// Notes in the part of the partition that the commit writes that it is being restored.
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

    /// Trims the target. What is read from trimmed blocks is unknown, block 0 included: they are cleared again.
    func trim(_ warnings: inout [String]) throws(BlockIOError) {
        do throws(BlockIOError) { try target.discard(0..<target.byteCount) } catch {
            warnings.append("the target was not trimmed: \(error)")
        }
        try invalidate()
    }

    // MARK: how far it is

    /// Writes the journal as it is. What it says was true must have been flushed before.
    mutating func note() throws(BlockIOError) {
        if hasJournal { try journal.write(to: target) }
    }

    /// Notes that everything before `position` of the captured disk is written: first the flush, then the note.
    mutating func advance(to position: UInt64) throws(BlockIOError) {
        guard hasJournal, position > journal.position else { return }
        try target.flush()
        journal.position = position
        try journal.write(to: target)
    }

    /// Notes that all data is there, flushed before.
    mutating func noteAllData() throws(BlockIOError) {
        journal.position = journal.diskByteCount
        try note()
    }
}
