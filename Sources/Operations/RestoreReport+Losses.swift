// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Imaging
import JobModel

extension RestoreReport {
    /// The losses as text: sums, ranges and files.
    /// - Parameter disk: the name of the target.
    package func lossLines(_ disk: String) -> [String] {
        var lines: [String] = []
        let mostRanges = 10
        for number in lost.reduce(into: [Int?](), { if $0.last != $1.partition { $0.append($1.partition) } }) {
            let ranges = lost.filter { $0.partition == number }
            let name = number.map { "partition \($0)" } ?? "outside every partition"
            let sum = ByteText.exact(ranges.reduce(0) { $0 + $1.captured.byteCount })
            lines.append("lost: \(name): \(sum) in \(ranges.count) range\(ranges.count == 1 ? "" : "s")")
            for range in ranges.prefix(mostRanges) {
                lines.append(
                    range.target.map { "  bytes \($0.lowerBound) to \($0.upperBound) of \(disk)" }
                        ?? "  bytes \(range.captured.lowerBound) to \(range.captured.upperBound) of the captured disk")
            }
            if ranges.count > mostRanges { lines.append("  and \(ranges.count - mostRanges) more") }
        }
        for found in lostFiles {
            let name = found.partition.map { "partition \($0)" } ?? disk
            if !found.files.isEmpty { lines.append("files of \(name) that lost contents:") }
            // File names from a foreign disk may contain control characters.
            lines += found.files.map { "  \($0.printable)" }
            if found.moreFiles > 0 { lines.append("  and \(found.moreFiles) more") }
            lines += found.notes.map { "files of \(name): \($0.printable)" }
        }
        return lines
    }
}
