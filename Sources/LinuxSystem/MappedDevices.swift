// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// A device-mapper device of this machine, according to sysfs.
package struct MappedDevice: Equatable, Sendable {
    /// The kernel's name: `dm-3`.
    package var kernelName: String
    /// Its device-mapper name: `vg0-root`.
    package var name: String
    /// Its device-mapper id; empty for none. LVM's are `LVM-`, the group's id and the volume's.
    package var uuid: String

    package var path: FilePath { FilePath("/dev/\(kernelName)") }

    /// All mapped devices.
    package static func all(sys: FilePath = "/sys") -> [MappedDevice] {
        let folder = sys.appending("block")
        return Files.names(in: folder).filter { $0.hasPrefix("dm-") }.sorted().map { name in
            let own = folder.appending(name).appending("dm")
            return MappedDevice(
                kernelName: name, name: Files.text(own.appending("name")) ?? "",
                uuid: Files.text(own.appending("uuid")) ?? "")
        }
    }

    /// Waits until the kernel shows no device of that name: another program (udev, a probe) may have it open.
    ///
    /// A removed device loses its name before what is below it is free of it (drivers/md/dm.c,
    /// `cleanup_mapped_device`): one without a name is waited for, too.
    /// - Returns: whether it is gone.
    static func waitUntilGone(_ name: String, patience: Double = 20, sys: FilePath = "/sys") -> Bool {
        let deadline = SystemFacts.monotonicSeconds() + patience
        while all(sys: sys).contains(where: { $0.name == name || $0.name.isEmpty }) {
            guard SystemFacts.monotonicSeconds() < deadline else { return false }
            SystemFacts.sleep(seconds: 0.05)
        }
        return true
    }

    /// The name of a logical volume's device (LVM2's `libdm/libdm-string.c`, `dm_build_dm_name`: hyphens are doubled).
    package static func name(group: String, volume: String) -> String {
        "\(escaped(group))-\(escaped(volume))"
    }

    /// Whether it belongs to a group of that name.
    package func isOf(groupNamed group: String) -> Bool {
        guard uuid.hasPrefix("LVM-") else { return false }
        let prefix = Self.escaped(group) + "-"
        // A doubled hyphen belongs to a longer name.
        return name.hasPrefix(prefix) && name.dropFirst(prefix.count).first != "-"
    }

    private static func escaped(_ name: String) -> String {
        name.split(separator: "-", omittingEmptySubsequences: false).joined(separator: "--")
    }
}
