// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// The machine's hardware as text, for a report: no serial numbers, no UUIDs.
enum HardwareList {
    /// Upper bound on the devices of a bus.
    private static let limit = 1000
    /// What /sys/class/dmi/id says without naming a single machine.
    private static let dmi = [
        "sys_vendor", "product_name", "product_version", "product_family", "board_vendor", "board_name",
        "board_version", "bios_vendor", "bios_version", "bios_date", "chassis_type",
    ]

    /// The list.
    static func text(_ sysfs: FilePath = "/sys") -> String {
        var lines = ["DMI"]
        for name in dmi {
            let path = sysfs.appending("class").appending("dmi").appending("id").appending(name)
            if let value = Files.text(path)?.strippedSpaces, !value.isEmpty {
                lines.append("  \(name): \(value.printable)")
            }
        }
        for bus in ["pci", "usb", "virtio", "mmc", "thunderbolt"] {
            let folder = sysfs.appending("bus").appending(bus).appending("devices")
            let names = Files.names(in: folder).prefix(limit)
            guard !names.isEmpty else { continue }
            lines += ["", "\(bus): device, driver, modalias"]
            for name in names { lines.append("  \(name)  \(device(folder.appending(name)))") }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func device(_ folder: FilePath) -> String {
        // `DRIVER=` and `MODALIAS=`; cards in readers have no file `modalias`.
        var driver = "-"
        var modalias = "-"
        for line in (Files.text(folder.appending("uevent")) ?? "").split(separator: "\n") {
            if line.hasPrefix("DRIVER=") { driver = String(line.dropFirst(7)) }
            if line.hasPrefix("MODALIAS=") { modalias = String(line.dropFirst(9)) }
        }
        return "\(driver.printable)  \(modalias.printable)"
    }
}
