// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel

/// What a verification found.
package struct VerifyReport: Sendable {
    /// Something that is damaged or missing.
    package struct Problem: Equatable, Sendable, CustomStringConvertible {
        /// The snapshot that it concerns; `nil` where it concerns none, or nobody knows which.
        package var snapshot: ContentHash?
        /// The partition; `nil` outside of partitions, and where `disk` is.
        package var partition: Int?
        /// The bytes of the captured disk; `nil` where it is not about its contents.
        package var disk: ByteRange?
        /// What is wrong, and in which file.
        package var what: String

        /// One sentence for a person.
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
    /// The snapshots that were looked at.
    package var snapshotCount = 0
    /// The packs that were looked at.
    package var packCount = 0
    /// The indexes that were read.
    package var indexCount = 0
    /// The contents that were read and identified, and the bytes that this took from the packs.
    package var readCount: UInt64 = 0
    /// The bytes of packs that were read for that.
    package var readByteCount: UInt64 = 0
    /// The bytes of packs that could have been read.
    package var storedByteCount: UInt64 = 0
    /// Which packs were read follows from this; `nil` where none were.
    package var seed: UInt64?
    /// What is wrong; the first 1000.
    package private(set) var problems: [Problem] = []
    /// How many there are in all.
    package private(set) var problemCount = 0
    /// What a person should know, without anything being wrong.
    package var notes: [String] = []

    /// Whether nothing is wrong.
    package var isWhole: Bool { problemCount == 0 }

    private static let largest = 1000

    mutating func add(_ problem: Problem) {
        // Neighbours with the same trouble are one.
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
