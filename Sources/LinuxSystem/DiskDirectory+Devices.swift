// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemPackage

extension DiskDirectory {
    /// Upper bound on the devices of a machine that are looked at.
    private static let mostDevices = 4096

    /// The devices between a disk and the processor, the disk's own first: each with the text by which a kernel finds
    /// its driver, and the driver that it has here.
    package func devices(behind disk: String) -> [DeviceDriver] {
        guard var place = Files.realPath(sys.appending("block/\(disk)/device")) else { return [] }
        // NVMe with native multipath: the disk is below a virtual subsystem, which links to its controllers.
        if place.string.contains("/nvme-subsystem/") {
            let controller = Files.names(in: place).first { name in
                name.hasPrefix("nvme") && name.count > 4 && name.dropFirst(4).allSatisfy(\.isNumber)
            }
            if let controller, let real = Files.realPath(place.appending(controller)) { place = real }
        }
        var devices: [DeviceDriver] = []
        let top = Files.realPath(sys.appending("devices"))?.string ?? sys.appending("devices").string
        while place.string.hasPrefix(top + "/"), devices.count < 64 {
            if let device = device(at: place) { devices.append(device) }
            place.removeLastComponent()
        }
        return devices
    }

    /// The machine's storage controllers on PCI, in the order of their addresses: base class 01 (mass storage), and
    /// hosts of SD cards (base class 08, subclass 05; PCI Code and ID Assignment §1).
    package func storageControllers() -> [DeviceDriver] {
        let folder = sys.appending("bus/pci/devices")
        return Files.names(in: folder).sorted().prefix(Self.mostDevices).compactMap { name in
            guard let device = Files.realPath(folder.appending(name)).flatMap(device(at:)),
                device.isPCI(baseClass: "01") || device.isPCI(baseClass: "08", subclass: "05")
            else { return nil }
            return device
        }
    }

    /// The device of a folder in sysfs; `nil` if it is none that a driver is looked up for.
    private func device(at place: FilePath) -> DeviceDriver? {
        // An SD card has no file `modalias`, only the line of its uevent.
        let event = Files.text(place.appending("uevent"))?.split(separator: "\n")
            .first { $0.hasPrefix("MODALIAS=") }.map { String($0.dropFirst(9)) }
        guard let modalias = Files.text(place.appending("modalias"))?.trimmed.nonEmpty ?? event?.nonEmpty
        else { return nil }
        return DeviceDriver(
            modalias: modalias, driver: Files.realPath(place.appending("driver"))?.lastComponent?.string,
            module: Files.realPath(place.appending("driver/module"))?.lastComponent?.string)
    }
}

extension DeviceDriver {
    /// Whether it is a PCI function of a class, by its modalias (`pci:v…d…sv…sd…bc01sc06i01`).
    /// - Parameters:
    ///   - baseClass: two hexadecimal digits in upper case.
    ///   - subclass: the same; `nil` for any.
    package func isPCI(baseClass: String, subclass: String? = nil) -> Bool {
        guard let modalias, modalias.hasPrefix("pci:") else { return false }
        // Vendor and device come first, and hold no lower case letters.
        let fields = modalias.dropFirst(4)
        guard let start = fields.indices.first(where: { fields[$0...].hasPrefix("bc") }) else { return false }
        return fields[start...].hasPrefix("bc\(baseClass)sc\(subclass ?? "")")
    }
    /// Whether it is an Intel RST controller in RAID mode: class 0104, and not a VMD, which Linux has a driver for.
    /// Below such a controller, chipsets before VMD hide NVMe disks.
    package var hidesNVMe: Bool {
        modalias?.hasPrefix("pci:v00008086") == true && isPCI(baseClass: "01", subclass: "04") && module != "vmd"
            && driver != "vmd"
    }
}
