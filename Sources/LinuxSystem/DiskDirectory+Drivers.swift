// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemPackage

extension DiskDirectory {
    private static let mostDevices = 32

    /// The devices on the way from a disk to the processor, with their drivers in the running kernel: the disk itself
    /// first, then its controllers. Empty for a file, a loop device and mapped devices.
    ///
    /// The bus is the same for each kernel, so that the modalias of each device finds the driver of another kernel.
    package func drivers(of disk: String) -> [DeviceDriver] {
        guard let start = Files.realPath(sys.appending("block/\(disk)/device")) else { return [] }
        var starts = [start]
        // An NVMe disk with several paths hangs below a virtual subsystem, with a link for each controller
        // (drivers/nvme/host/multipath.c).
        if start.lastComponent?.string.hasPrefix("nvme-subsys") == true {
            starts = Files.names(in: start).filter { Self.isController($0) }
                .compactMap { Files.realPath(start.appending($0)) }
        }
        var found: [DeviceDriver] = []
        for start in starts {
            var place = start
            while place.components.count > sys.components.count + 1, found.count < Self.mostDevices {
                if let device = driver(of: place), !found.contains(device) { found.append(device) }
                place.removeLastComponent()
            }
        }
        return found
    }

    /// `nvme0`, but not the namespace `nvme0n1`.
    private static func isController(_ name: String) -> Bool {
        name.hasPrefix("nvme") && UInt(name.dropFirst(4)) != nil
    }

    /// - Returns: `nil` for a folder that is no device with a driver or a modalias.
    private func driver(of device: FilePath) -> DeviceDriver? {
        // An SD card has no file `modalias`; every device's uevent has the line.
        let lines = Files.text(device.appending("uevent"))?.split(separator: "\n") ?? []
        let modalias = lines.first { $0.hasPrefix("MODALIAS=") }.map { String($0.dropFirst(9)) }
        func target(_ link: String) -> String? {
            Files.linkTarget(device.appending(link))?.split(separator: "/").last.map(String.init)
        }
        let driver = target("driver")
        guard driver != nil || modalias != nil else { return nil }
        return DeviceDriver(modalias: modalias, driver: driver, module: target("driver/module"))
    }
}
