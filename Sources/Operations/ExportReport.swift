// SPDX-License-Identifier: GPL-3.0-or-later
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

    /// The exit status that the export leads to.
    package var outcome: Outcome {
        Outcome(!lost.isEmpty || !unreadable.isEmpty ? .badImage : incomplete.isEmpty ? .done : .incomplete)
    }
}
