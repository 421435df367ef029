// SPDX-License-Identifier: GPL-3.0-or-later

/// Runs of sectors that are written in order, each on the disk before the next: what points to others comes last.
package struct SectorWrites: Codable, Equatable, Sendable {
    package var runs: [SectorRun]
    /// What was done, as a sentence.
    package var done: String
    /// What was not, as a sentence that the error ends.
    package var failure: String

    package init(_ runs: [SectorRun], done: String, failure: String) {
        self.runs = runs
        self.done = done
        self.failure = failure
    }
}
