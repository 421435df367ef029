// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Imaging
import JobModel

extension RestoreReport {
    /// The exit status: losses count more than steps that are pending.
    package var status: ExitStatus {
        guard diskState == .salvaged else { return incomplete.isEmpty ? .done : .incomplete }
        return source == nil ? .badImage : .ioError
    }

    /// What was lost, and what to do; `nil` without losses.
    package func lossSentence(_ job: RestoreJob) -> String? {
        guard diskState == .salvaged else { return nil }
        let amount = ByteText.exact(lost.reduce(0) { $0 + $1.captured.byteCount })
        let place =
            job.only.map { "partition \(job.into ?? $0) of \(job.disk) has" }
            ?? "\(job.disk) has its partition table and"
        let (cause, rest) =
            source == nil
            ? ("is damaged", "that the image still holds") : ("could not be read everywhere", "that could be read")
        return "\(job.image) \(cause): \(place) all data \(rest); \(amount) are lost, and are zeros. Check its "
            + "filesystems before they are used"
    }

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
