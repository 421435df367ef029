// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel

/// Watches which disk an open selector (`only`, `size>=`) means until the answer has stayed the same for `watchSeconds`.
///
/// A disk whose driver is slow must not leave another one as "the only one": more than one disk seen in that time is a refusal,
/// also where one of them has gone again.
struct SteadyDisk {
    /// How long the answer must stay the same, in seconds.
    static let watchSeconds = 10.0

    let selector: DiskSelector
    let reading: Bool
    private var seen: [DiskCandidate] = []

    init(_ selector: DiskSelector, reading: Bool) {
        self.selector = selector
        self.reading = reading
    }

    /// Notes the disks that are there now.
    mutating func look(at disks: [DiskCandidate]) {
        for disk in selector.allowed(from: disks) where !seen.contains(where: { $0.identity == disk.identity }) {
            seen.append(disk)
        }
    }

    /// The disk that was the answer all the time.
    /// - Parameter disks: those that are there at the end.
    /// - Throws: status 78 where several were seen, or the answer is another one now.
    func choose(from disks: [DiskCandidate]) throws(JobFailure) -> DiskCandidate {
        let chosen = try selector.choose(from: disks, reading: reading)
        guard seen.count == 1, seen.first?.identity == chosen.identity else {
            throw JobFailure(
                .ambiguous,
                "\(selector.description.printable): disks came or went while the machine was watched, so that it is not certain which "
                    + "one is meant. Nothing was written. Name the disk by its serial number (serial=...).\nSeen:\n"
                    + seen.map { "  \($0.line)" }.joined(separator: "\n"))
        }
        return chosen
    }
}
