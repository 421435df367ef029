// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// The hardware of a machine, as far as it decides whether a disk starts there: `reforge machine > MACHINE.json`.
package struct MachineRecord: Codable, Equatable, Sendable {
    /// A disk, and the devices through which the machine reaches it.
    package struct Disk: Codable, Equatable, Sendable {
        /// The kernel's name: `nvme0n1`.
        package var name: String
        package var model: String?
        package var transport: String
        package var byteCount: UInt64
        /// The addressing unit, in bytes.
        package var sectorSize: Int
        /// From the disk's own device upward.
        package var devices: [DeviceDriver]

        private enum CodingKeys: String, CodingKey, CaseIterable {
            case name, model, transport, byteCount, sectorSize, devices
        }

        package init(from decoder: any Decoder) throws {
            try StrictKeys.check(decoder, CodingKeys.self)
            let container = try decoder.container(keyedBy: CodingKeys.self)
            name = try container.decode(String.self, forKey: .name)
            model = try container.decodeIfPresent(String.self, forKey: .model)
            transport = try container.decode(String.self, forKey: .transport)
            byteCount = try container.decode(UInt64.self, forKey: .byteCount)
            sectorSize = try container.decode(Int.self, forKey: .sectorSize)
            devices = try container.decode([StrictDevice].self, forKey: .devices).map(\.device)
        }

        package init(
            name: String, model: String? = nil, transport: String, byteCount: UInt64, sectorSize: Int = 512,
            devices: [DeviceDriver] = []
        ) {
            self.name = name
            self.model = model
            self.transport = transport
            self.byteCount = byteCount
            self.sectorSize = sectorSize
            self.devices = devices
        }
    }

    /// What `format` says in every record.
    package static let format = "reforge-machine"
    /// The newest version that this program reads and writes.
    package static let version = 1

    package var format = Self.format
    package var version = Self.version
    package var firmware: Firmware
    /// Whether the firmware enforces Secure Boot; `nil` if it does not say.
    package var secureBoot: Bool?
    /// As `uname -m` says.
    package var architecture: String
    /// DMI's names. Serial numbers are left out.
    package var vendor: String?
    package var product: String?
    package var board: String?
    /// The version of the firmware.
    package var firmwareVersion: String?
    /// Storage controllers on PCI, with or without disks.
    package var controllers: [DeviceDriver]
    package var disks: [Disk]

    // Here and not beside `init(from:)`: Swift 6.3 does not compile keys of another file for a made `encode(to:)`.
    enum CodingKeys: String, CodingKey, CaseIterable {
        case format, version, firmware, secureBoot, architecture, vendor, product, board, firmwareVersion, controllers
        case disks
    }

    package init(
        firmware: Firmware, secureBoot: Bool? = nil, architecture: String = "x86_64", vendor: String? = nil,
        product: String? = nil, board: String? = nil, firmwareVersion: String? = nil,
        controllers: [DeviceDriver] = [], disks: [Disk] = []
    ) {
        self.firmware = firmware
        self.secureBoot = secureBoot
        self.architecture = architecture
        self.vendor = vendor
        self.product = product
        self.board = board
        self.firmwareVersion = firmwareVersion
        self.controllers = controllers
        self.disks = disks
    }

    /// The name for the user.
    package var name: String {
        let name = [vendor, product].compactMap { $0 }.joined(separator: " ")
        return name.isEmpty ? "a machine without a name" : name
    }

    /// What a disk hangs on.
    /// - Parameter disk: the kernel's name of the target; `nil` for one that is not in the machine yet: all of its
    ///   disks, without those on USB, such as a medium; in a machine without its own disk, each storage controller, or
    ///   USB if there is none.
    package func devices(behind disk: String?) -> [[DeviceDriver]] {
        // A loop device hangs on nothing that would be there at a start.
        if let disk { return disks.filter { $0.name == disk && !$0.devices.isEmpty }.map(\.devices) }
        func ways(_ found: [[DeviceDriver]]) -> [[DeviceDriver]] {
            found.reduce(into: []) { all, devices in
                if !devices.isEmpty, !all.contains(devices) { all.append(devices) }
            }
        }
        let fixed = ways(disks.filter { $0.transport != "usb" }.map(\.devices))
        if !fixed.isEmpty { return fixed }
        let controllers = ways(controllers.filter { $0.isPCI(baseClass: "01") }.map { [$0] })
        return controllers.isEmpty ? ways(disks.map(\.devices)) : controllers
    }
}
