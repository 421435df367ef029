// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// A device of the machine, as sysfs shows it.
package struct HardwareDevice: Codable, Equatable, Sendable {
    /// The kernel's name: `0000:00:1f.2`.
    package var name: String
    /// The text by which modules.alias names its driver: `pci:v00008086d00002922sv…`.
    package var modalias: String
    /// The module that drives it here, or the driver that is built into this kernel; `nil` if none does.
    package var driver: String?

    package init(name: String, modalias: String, driver: String? = nil) {
        self.name = name
        self.modalias = modalias
        self.driver = driver
    }

    /// Whether it is a PCI function of a class (PCI Code and ID Assignment §1).
    /// - Parameter subclass: `nil` for any.
    package func isPCI(class baseClass: String, subclass: String? = nil) -> Bool {
        modalias.hasPrefix("pci:") && modalias.contains("bc\(baseClass)sc\(subclass ?? "")")
    }
}

extension DiskDirectory {
    /// Upper bound on the levels of sysfs above a disk, and on the devices of a machine.
    private static let mostDevices = 4096

    /// The devices between a disk and the processor that need a driver: the disk's own first.
    package func devices(behind disk: String) -> [HardwareDevice] {
        guard var place = Files.realPath(sys.appending("block/\(disk)/device")) else { return [] }
        // NVMe with native multipath: the disk hangs below a virtual subsystem, which links to its controllers.
        if place.string.contains("/nvme-subsystem/") {
            let controller = Files.names(in: place).first { name in
                name.hasPrefix("nvme") && name.dropFirst(4).allSatisfy(\.isNumber)
            }
            if let controller, let real = Files.realPath(place.appending(controller)) { place = real }
        }
        var devices: [HardwareDevice] = []
        let top = Files.realPath(sys.appending("devices"))?.string ?? sys.appending("devices").string
        while place.string.hasPrefix(top + "/"), devices.count < 64 {
            if let device = device(at: place) { devices.append(device) }
            place.removeLastComponent()
        }
        return devices
    }

    /// The machine's storage controllers on PCI: class 01 (mass storage), and hosts of SD cards (class 08, subclass
    /// 05).
    package func storageControllers() -> [HardwareDevice] {
        let folder = sys.appending("bus/pci/devices")
        return Files.names(in: folder).prefix(Self.mostDevices).sorted().compactMap { name in
            guard let device = Files.realPath(folder.appending(name)).flatMap(device(at:)),
                device.isPCI(class: "01") || device.isPCI(class: "08", subclass: "05")
            else { return nil }
            return device
        }
    }

    /// The device of a folder in sysfs; `nil` if it is none that needs a driver.
    private func device(at place: FilePath) -> HardwareDevice? {
        guard let modalias = Files.text(place.appending("modalias"))?.trimmed.nonEmpty else { return nil }
        let module = Files.realPath(place.appending("driver/module"))?.lastComponent?.string
        let driver = Files.realPath(place.appending("driver"))?.lastComponent?.string
        return HardwareDevice(
            name: place.lastComponent?.string ?? "", modalias: modalias, driver: module ?? driver)
    }
}
