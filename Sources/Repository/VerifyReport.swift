// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel

/// The result of a verification.
package struct VerifyReport: Sendable {
    /// A damaged or missing part.
    package struct Problem: Equatable, Sendable, CustomStringConvertible {
        /// The affected snapshot; `nil` if there is none or it is unknown.
        package var snapshot: ContentHash?
        /// The partition; `nil` outside of partitions, and if `disk` is `nil`.
        package var partition: Int?
        /// The affected bytes of the captured disk; `nil` if the problem does not concern its contents.
        package var disk: ByteRange?
        /// The problem and the file.
        package var what: String

        /// A sentence for the user.
        package var description: String {
            guard let snapshot else { return what }
            var text = "snapshot \(snapshot.description.prefix(12))"
            if let disk {
                text += partition.map { ", partition \($0)" } ?? ", outside every partition"
                text += ", bytes \(disk.lowerBound) to \(disk.upperBound) of the disk"
            }
            return "\(text): \(what)"
        }
    }
    /// The number of snapshots read.
    package var snapshotCount = 0
    /// The number of packs read.
    package var packCount = 0
    /// The number of indexes read.
    package var indexCount = 0
    /// The number of contents read and identified.
    package var readCount: UInt64 = 0
    /// The bytes of packs read for that.
    package var readByteCount: UInt64 = 0
    /// The bytes of packs that could be read.
    package var storedByteCount: UInt64 = 0
    /// The seed that selected the packs to read; `nil` if none were read.
    package var seed: UInt64?
    /// The first 1000 problems.
    package private(set) var problems: [Problem] = []
    /// The total number of problems.
    package private(set) var problemCount = 0
    /// Remarks for the user that are no problems.
    package var notes: [String] = []

    /// Whether there are no problems.
    package var isWhole: Bool { problemCount == 0 }

    private static let largest = 1000

    mutating func add(_ problem: Problem) {
        // Adjacent ranges with the same problem are merged.
        if let last = problems.last, last.snapshot == problem.snapshot, last.partition == problem.partition,
            last.what == problem.what, let before = last.disk, let next = problem.disk,
            before.upperBound == next.lowerBound
        {
            problems[problems.count - 1].disk = before.lowerBound..<next.upperBound
            return
        }
        problemCount += 1
        if problems.count < Self.largest { problems.append(problem) }
    }

    mutating func add(_ what: String) { add(Problem(what: what)) }
}
