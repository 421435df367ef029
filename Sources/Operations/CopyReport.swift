// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Repository
import SystemPackage

/// The result of a copy.
package struct CopyReport: Encodable {
    /// A snapshot or image that was copied.
    package struct Copy: Encodable {
        package var source: String
        package var id: String
        package var readByteCount: UInt64
        package var newByteCount: UInt64
        package var deduplicatedByteCount: UInt64
        package var storedByteCount: UInt64
        /// The ranges that are zeros in the copy, in bytes of the captured disk; `nil` for a whole source.
        package var lost: [ByteRange]?
    }
    package let schema = 1
    package var copies: [Copy] = []
    package var skipped = 0
    /// The damaged ones among the skipped, whose intact data was copied before.
    package var damagedSkipped = 0
    package var seconds: Double = 0

    /// The exit status that the copy leads to.
    package var outcome: Outcome {
        Outcome(damagedSkipped > 0 || copies.contains { $0.lost != nil } ? .badImage : .done)
    }

    private enum CodingKeys: String, CodingKey { case schema, copies, skipped, damagedSkipped, seconds }
}
