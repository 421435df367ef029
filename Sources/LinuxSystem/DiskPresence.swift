// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// A disk as it was attached at some moment, to ask later whether it still is.
struct DiskPresence: Sendable {
    /// The kernel's name.
    let name: String
    private let directory: DiskDirectory
    /// The kernel's number for this attachment; `nil` before Linux 5.15.
    private let sequence: String?

    /// A disk; `nil` where there is none of that name, or nothing in its drive.
    init?(_ name: String, in directory: DiskDirectory = DiskDirectory()) {
        guard (directory.byteCount(of: name) ?? 0) > 0 else { return nil }
        self.name = name
        self.directory = directory
        sequence = directory.diskSequence(of: name)
    }

    /// Whether it was detached, its medium was taken out, or another disk has its name by now. What cannot be read (no
    /// descriptor is left) proves nothing.
    var isGone: Bool {
        if !Files.exists(directory.sys.appending("block/\(name)")) || directory.byteCount(of: name) == 0 { return true }
        guard let sequence, let now = directory.diskSequence(of: name) else { return false }
        return now != sequence
    }

    /// What it has done since it appeared; `nil` where the kernel does not tell.
    var activity: UInt64? { directory.activity(of: name) }

    /// The disks without which a device or filesystem cannot be: the first, and what that stands on. Of several that it stands
    /// on, one may be spare (RAID): they end the list.
    static func disks(below deviceNumber: UInt64, in directory: DiskDirectory = DiskDirectory()) -> [DiskPresence] {
        var disks: [DiskPresence] = []
        var next = directory.kernelName(ofDevice: deviceNumber)
        while let name = next.map(directory.wholeDisk), disks.count < 16, let disk = DiskPresence(name, in: directory) {
            disks.append(disk)
            let below = directory.nodesBelow(name)
            next = below.count == 1 ? below[0] : nil
        }
        return disks
    }
}
