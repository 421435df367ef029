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

/// What a copy did.
package struct CopyReport: Encodable {
    /// A snapshot or image that was copied.
    package struct Copy: Encodable {
        package var source: String
        package var id: String
        package var readByteCount: UInt64
        package var newByteCount: UInt64
        package var deduplicatedByteCount: UInt64
        package var storedByteCount: UInt64
        /// What the copy has zeros for, in bytes of the captured disk; `nil` of a whole source.
        package var lost: [ByteRange]?
    }
    package let schema = 1
    package var copies: [Copy] = []
    package var skipped = 0
    /// Of these, damaged ones of which what is left was copied before.
    package var damagedSkipped = 0
    package var seconds: Double = 0

    /// How it ended.
    package var outcome: Outcome {
        Outcome(damagedSkipped > 0 || copies.contains { $0.lost != nil } ? .badImage : .done)
    }

    private enum CodingKeys: String, CodingKey { case schema, copies, skipped, damagedSkipped, seconds }
}
