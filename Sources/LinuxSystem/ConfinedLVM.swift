// SPDX-License-Identifier: GPL-3.0-or-later

/// LVM's programs, confined to the one node that holds a physical volume: other disks may hold a copy of it, or
/// a group of the same name.
package enum ConfinedLVM {
    /// Overrides settings of this machine, and turns off the services that the recovery environment lacks: udev,
    /// dmeventd, lvmpolld (lvm.conf(5)). Backups of the metadata would otherwise be written to this machine's /etc.
    private static let devices = "devices{use_devicesfile=0 hints=\"none\"}"
    private static let services = "global{use_lvmpolld=0 use_lvmlockd=0 event_activation=0} backup{backup=0 archive=0}"
    private static let activation = "udev_sync=0 udev_rules=0 monitoring=0"

    /// Whether lvm(8), "VALID NAMES", allows this name for a group or a volume: names from a disk
    /// become arguments and paths.
    package static func isName(_ name: some StringProtocol) -> Bool {
        !name.isEmpty && !name.hasPrefix("-") && name != "." && name != ".." && name.utf8.count <= 127
            && name.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "+_.-".contains($0)) }
    }

    /// The command line of an LVM command.
    /// - Parameters:
    ///   - name: `lvchange`, …
    ///   - node: the only device that LVM sees.
    ///   - readOnlyGroup: a group whose volumes the kernel makes read-only, whatever the metadata says.
    package static func command(
        _ name: String, on node: String, _ arguments: [String], readOnlyGroup: String? = nil
    ) -> [String] {
        let readOnly = readOnlyGroup.map { " read_only_volume_list=[\"\($0)\"]" } ?? ""
        return [
            "lvm", name, "--devices", node, "--config", "\(devices) \(services) activation{\(activation)\(readOnly)}",
        ] + arguments
    }
}
