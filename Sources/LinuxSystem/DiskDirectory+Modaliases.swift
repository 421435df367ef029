// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

extension DiskDirectory {
    /// The modaliases of a disk's device and of all devices above it in sysfs, the disk first: its controller, the bus of
    /// that, bridges.
    /// - Parameter name: the kernel's name of the disk.
    package func modaliases(of name: String) -> [String] {
        guard var place = Files.realPath(sys.appending("block/\(name)")) else { return [] }
        var found: [String] = []
        while let last = place.lastComponent, last.string != "devices" {
            if let modalias = Files.text(place.appending("modalias"))?.trimmed, !modalias.isEmpty {
                found.append(modalias)
            }
            place = place.removingLastComponent()
        }
        return found
    }
}
