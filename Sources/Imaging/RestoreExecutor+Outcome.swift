// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

extension RestoreExecutor {
    /// The state in which a restore left the target.
    package enum DiskState: String, Codable, Sendable {
        /// Nothing was written.
        case untouched
        /// Partly written; it boots nothing, and the same command continues.
        case partial
        /// All data and the table are there.
        case complete
        /// The table and all intact data of a damaged image or a failing disk are there; lost ranges are zeros.
        case salvaged
    }

    /// The result of a restore.
    package struct Outcome: Sendable {
        /// The bytes of the image's content that were written.
        package var writtenByteCount: UInt64
        /// Warnings in addition to those of the plan.
        package var warnings: [String]
        /// The filesystems that could not be grown, with the reasons.
        package var failedGrowths: [String]
        /// The ranges that the image has lost, or that could not be read from a disk; they are zeros on the target.
        package var lost: [LostRange] = []
        /// The position of the interrupted restore that was resumed; `nil` for a restore from the start.
        package var resumedFrom: UInt64?
    }
}
