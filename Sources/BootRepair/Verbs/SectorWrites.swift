// SPDX-License-Identifier: GPL-3.0-or-later

/// Runs of sectors written in order, each durable before the next: sectors that point to others come last.
package struct SectorWrites: Codable, Equatable, Sendable {
    package var runs: [SectorRun]
    /// The result, as a sentence.
    package var done: String
    /// The failure, as a sentence completed by the error.
    package var failure: String

    package init(_ runs: [SectorRun], done: String, failure: String) {
        self.runs = runs
        self.done = done
        self.failure = failure
    }
}
