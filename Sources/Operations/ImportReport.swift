// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel

/// The result of an import.
package struct ImportReport: Encodable {
    /// A disk that was imported.
    package struct Disk: Encodable {
        /// The disk's name in the source.
        package var name: String
        /// The name of the tool that made the source's images.
        package var format: String
        package var id: String
        package var readByteCount: UInt64
        package var newByteCount: UInt64
        package var deduplicatedByteCount: UInt64
        package var storedByteCount: UInt64
        /// What could not be proved, or was left out.
        package var warnings: [String]
        /// The ranges that are zeros in the copy, in bytes of the disk; `nil` if nothing was missing.
        package var lost: [ByteRange]?
    }
    package let schema = 1
    package var disks: [Disk] = []
    package var seconds: Double = 0

    package var outcome: Outcome { Outcome(disks.contains { $0.lost != nil } ? .badImage : .done) }

    private enum CodingKeys: String, CodingKey { case schema, disks, seconds }
}
