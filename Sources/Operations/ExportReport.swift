// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import Imaging
import JobModel

/// The result of an export.
package struct ExportReport: Encodable {
    package let schema = 1
    package var image: String
    package var imageID: String?
    package var output: String
    package var format: String
    /// The length of the disk.
    package var byteCount: UInt64
    /// The length of the file.
    package var fileByteCount: UInt64
    /// What the file takes on its filesystem.
    package var storedByteCount: UInt64
    package var start: MachineStart
    /// The plan, if the disk was laid out again.
    package var plan: RestorePlan.JSON?
    package var warnings: [String]
    /// What did not succeed, such as the growth of a filesystem, although all data is there.
    package var incomplete: [String] = []
    /// The ranges that are zeros because the image has lost them.
    package var lost: [LostRange] = []
    /// Ranges that could not be read at the capture, as sentences.
    package var unreadable: [String] = []
    package var seconds: Double = 0
    /// Whether nothing was written.
    package var dryRun = false
    /// The machine that the disk was adapted to.
    package var machine: String?
    /// What may keep it from starting there: after the changes, or without any in a dry run.
    package var findings: [Finding] = []
    /// The changes for that machine, a sentence each.
    package var changed: [String] = []

    /// The exit status that the export leads to.
    package var outcome: Outcome {
        if !lost.isEmpty || !unreadable.isEmpty { return Outcome(.badImage) }
        return Outcome(incomplete.isEmpty && !findings.contains(where: isOpen) ? .done : .incomplete)
    }

    /// Whether a finding is a reason not to trust the disk on that machine: it does not start there, or not from each
    /// of its usual controllers. A dry run leaves to the export what it repairs.
    private func isOpen(_ finding: Finding) -> Bool {
        guard finding.severity != .note, !dryRun || finding.isOpen else { return false }
        return finding.severity == .stops || finding.stage == .driver || finding.stage == .windows
    }
}
