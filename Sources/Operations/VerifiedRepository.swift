// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import Repository

/// The result of checking a repository.
package struct VerifiedRepository: Encodable {
    package struct Problem: Encodable {
        package var snapshot: String?
        package var partition: Int?
        package var disk: ByteRange?
        package var what: String
        /// The problem as a sentence.
        package var sentence: String

        private enum CodingKeys: String, CodingKey { case snapshot, partition, disk, what }
    }
    package let schema = 1
    package var repository: String
    package var isWhole: Bool
    package var snapshots: Int
    package var packs: Int
    package var indexes: Int
    package var readByteCount: UInt64
    package var storedByteCount: UInt64
    package var problemCount: Int
    /// The first problems; `problemCount` counts all.
    package var problems: [Problem]
    package var notes: [String]
    package var seconds: Double

    init(_ repository: String, _ report: VerifyReport, seconds: Double) {
        self.repository = repository
        isWhole = report.isWhole
        (snapshots, packs, indexes) = (report.snapshotCount, report.packCount, report.indexCount)
        (readByteCount, storedByteCount) = (report.readByteCount, report.storedByteCount)
        problemCount = report.problemCount
        problems = report.problems.map {
            Problem(
                snapshot: $0.snapshot?.description, partition: $0.partition, disk: $0.disk, what: $0.what,
                sentence: $0.description)
        }
        notes = report.notes
        self.seconds = seconds
    }
}
