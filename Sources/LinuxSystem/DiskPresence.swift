// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// A disk as attached at one moment, to check later whether it is still the same.
struct DiskPresence: Sendable {
    /// The kernel's name.
    let name: String
    private let directory: DiskDirectory
    /// The kernel's sequence number of this attachment; `nil` before Linux 5.15.
    private let sequence: String?

    /// A disk; `nil` if no disk has that name or its drive is empty.
    init?(_ name: String, in directory: DiskDirectory = DiskDirectory()) {
        guard (directory.byteCount(of: name) ?? 0) > 0 else { return nil }
        self.name = name
        self.directory = directory
        sequence = directory.diskSequence(of: name)
    }

    /// Whether it was detached, its medium was removed, or another disk has taken its name. A failed read (no
    /// descriptor is left) proves nothing.
    var isGone: Bool {
        if !Files.exists(directory.sys.appending("block/\(name)")) || directory.byteCount(of: name) == 0 { return true }
        guard let sequence, let now = directory.diskSequence(of: name) else { return false }
        return now != sequence
    }

    /// Its number of completed requests; `nil` if the kernel does not report it.
    var activity: UInt64? { directory.activity(of: name) }

    /// The disks that a device or filesystem depends on: its disk, and the devices below that one. A device with
    /// several devices below may have a spare (RAID), so the list ends there.
    /// - Parameter opening: as for `DiskDirectory.nodesBelow`.
    static func disks(
        below deviceNumber: UInt64, opening: Bool = true, in directory: DiskDirectory = DiskDirectory()
    ) -> [DiskPresence] {
        var disks: [DiskPresence] = []
        var next = directory.kernelName(ofDevice: deviceNumber)
        while let name = next.map(directory.wholeDisk), disks.count < 16, let disk = DiskPresence(name, in: directory) {
            disks.append(disk)
            let below = directory.nodesBelow(name, opening: opening)
            next = below.count == 1 ? below[0] : nil
        }
        return disks
    }
}
