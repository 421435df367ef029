// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel

/// Watches the disk chosen by an open selector (`only`, `size>=`) until the choice was stable for `watchSeconds`.
///
/// A disk whose driver is slow must not leave another one as "the only one": more than one disk seen in that time is a
/// refusal, even if one of them has disappeared again.
struct SteadyDisk {
    /// The required stable time, in seconds.
    static let watchSeconds = 10.0

    let selector: DiskSelector
    let reading: Bool
    private var seen: [DiskCandidate] = []

    init(_ selector: DiskSelector, reading: Bool) {
        self.selector = selector
        self.reading = reading
    }

    /// Records the current disks.
    mutating func look(at disks: [DiskCandidate]) {
        for disk in selector.allowed(from: disks) where !seen.contains(where: { $0.identity == disk.identity }) {
            seen.append(disk)
        }
    }

    /// The disk that was chosen all the time.
    /// - Parameter disks: the final disks.
    /// - Throws: status 78 if several were seen, or the choice has changed.
    func choose(from disks: [DiskCandidate]) throws(JobFailure) -> DiskCandidate {
        let chosen = try selector.choose(from: disks, reading: reading)
        guard seen.count == 1, seen.first?.identity == chosen.identity else {
            throw JobFailure(
                .ambiguous,
                "\(selector.description.printable): disks appeared or disappeared while the machine was watched, so the choice is "
                    + "uncertain. Nothing was written. Name the disk by its serial number (serial=...).\nSeen:\n"
                    + seen.map { "  \($0.line)" }.joined(separator: "\n"))
        }
        return chosen
    }
}
