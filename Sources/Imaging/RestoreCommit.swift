// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskEditing
import DiskModel
import ImageModel
import LinuxSystem

/// The commit of a restore: before it the target boots nothing, after it the target is whole.
struct RestoreCommit {
    private let plan: RestorePlan
    private let writer: TargetWriter
    /// The new partition table; `nil` for a disk that gets none.
    private let table: CapturedTable?
    /// The job whose end is recorded; `nil` for none.
    private let jobID: String?
    private let state: TargetState
    private let progress: Progress

    private var target: any BlockWriter { writer.target }

    /// Makes the table on a stand-in. If that fails, nothing was written to the target.
    init(_ setup: RestoreSetup, _ manifest: Manifest) throws(TableEditError) {
        plan = setup.plan
        writer = setup.writer
        jobID = setup.options.jobID
        state = setup.state
        progress = setup.progress
        table = try setup.plan.makeTable(manifest)
    }

    /// Writes the first MiB except block 0, and the end with the backup table; flushes; then writes block 0 in one
    /// write. With `only`, the same order within that partition.
    func write(_: consuming ProvedTarget, _ warnings: inout [String]) throws(BlockIOError) {
        progress.begin("commit", total: 0)
        state.isCommitting = true
        defer { state.isCommitting = false }
        if let table { try hold(table) }
        if let jobID, !noteEnd(of: jobID) {
            warnings.append(
                "the end of the job \(jobID) could not be recorded on \(target.name): there is no space between its partition table and "
                    + "its first partition")
        }
        let head = writer.head
        let sector = min(target.logicalSectorSize, head.count)
        let start = writer.area.lowerBound
        try target.writeBytes(Array(head[sector...]), at: start + UInt64(sector))
        if !writer.tail.isEmpty { try target.writeBytes(writer.tail, at: writer.direct.upperBound) }
        try target.flush()
        try target.writeBytes(Array(head[..<sector]), at: start)
        try target.flush()
        try target.dropCache()
    }

    /// Puts the table into the held-back windows.
    private func hold(_ table: CapturedTable) throws(BlockIOError) {
        let parts: [(bytes: [UInt8], offset: UInt64)] =
            [(table.head, 0), (table.tail, table.tailOffset)] + table.records.map { ($0.bytes, $0.offset) }
        for part in parts where !part.bytes.isEmpty {
            writer.hold(part.bytes, at: part.offset)
            // The part of a large table outside the windows is written at once: nothing reads it without block 0.
            let range = part.offset..<part.offset + UInt64(part.bytes.count)
            let now = range.clamped(to: writer.direct)
            if !now.isEmpty {
                let start = Int(now.lowerBound - range.lowerBound)
                try target.writeBytes(Array(part.bytes[start..<start + Int(now.byteCount)]), at: now.lowerBound)
            }
        }
    }

    /// Puts the record that the job is done into the held-back windows.
    /// - Returns: whether there was space for it.
    private func noteEnd(of jobID: String) -> Bool {
        guard let table, let first = plan.placements?.map(\.to.lowerBound).min(),
            let place = RestoreNote.place(in: writer.head, tableEnd: table.head.count, firstPartition: first)
        else { return false }
        let note = RestoreNote(
            jobID: jobID, imageUUID: plan.imageUUID.description, disk: plan.target, diskByteCount: target.byteCount,
            unixSeconds: SystemFacts.unixSeconds())
        writer.hold(note.bytes, at: UInt64(place))
        return true
    }

    /// Reads back the written ends, and compares.
    func verify() throws {
        let (head, tail) = (writer.head, writer.tail)
        guard try target.readBytes(at: writer.area.lowerBound, count: head.count) == head,
            try target.readBytes(at: writer.direct.upperBound, count: tail.count) == tail
        else {
            throw ImagingError.failed(
                "\(target.name) gave back other bytes at its ends than were written: it is failing, or smaller than it reports"
            )
        }
    }
}
