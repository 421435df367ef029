// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

extension RestoreExecutor {
    /// What state a restore left the target in.
    package enum DiskState: String, Codable, Sendable {
        /// Nothing was written.
        case untouched
        /// Some was written; it boots nothing, and the same command goes on.
        case partial
        /// All data and the table are there.
        case complete
        /// The table is there, and all data that the damaged image still has; zeros stand for the rest.
        case salvaged
    }

    /// What a restore did.
    package struct Outcome: Sendable {
        /// Bytes of the image's content that were written.
        package var writtenByteCount: UInt64
        /// What a person should know that the plan does not say.
        package var warnings: [String]
        /// Filesystems that could not be grown: why.
        package var failedGrowths: [String]
        /// What the image has lost, and is zeros on the target.
        package var lost: [LostRange] = []
        /// Where it went on from; `nil` where it started from the front.
        package var resumedFrom: UInt64?
    }
}
