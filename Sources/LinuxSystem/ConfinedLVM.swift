// SPDX-License-Identifier: GPL-3.0-or-later

/// LVM's programs, confined to the one node that holds a physical volume: other disks may carry a copy of it, or a group of
/// the same name.
package enum ConfinedLVM {
    /// What settings of this machine must not matter, and what there is nobody for in the recovery environment: udev,
    /// dmeventd, lvmpolld (lvm.conf(5)). Copies of the metadata would go into this machine's /etc.
    private static let devices = "devices{use_devicesfile=0 hints=\"none\"}"
    private static let services = "global{use_lvmpolld=0 use_lvmlockd=0 event_activation=0} backup{backup=0 archive=0}"
    private static let activation = "udev_sync=0 udev_rules=0 monitoring=0"

    /// Whether it is a name that lvm(8), "VALID NAMES", allows a group or a volume: what comes from a disk becomes an argument
    /// and a path.
    package static func isName(_ name: some StringProtocol) -> Bool {
        !name.isEmpty && !name.hasPrefix("-") && name != "." && name != ".." && name.utf8.count <= 127
            && name.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "+_.-".contains($0)) }
    }

    /// The command line of one of its commands.
    /// - Parameters:
    ///   - name: `lvchange`, …
    ///   - node: the device that LVM is to see.
    ///   - readOnlyGroup: a group whose volumes the kernel is not to let anybody write to, whatever the metadata says.
    package static func command(
        _ name: String, on node: String, _ arguments: [String], readOnlyGroup: String? = nil
    ) -> [String] {
        let readOnly = readOnlyGroup.map { " read_only_volume_list=[\"\($0)\"]" } ?? ""
        return [
            "lvm", name, "--devices", node, "--config", "\(devices) \(services) activation{\(activation)\(readOnly)}",
        ] + arguments
    }
}
