// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

extension MachineRecord {
    /// Far more than any machine's.
    package static let longestJSON = 512 << 10
    private static let mostDevices = 4096
    private static let mostDisks = 1024

    /// Reads the JSON of `reforge machine`, from anywhere.
    package init(json: [UInt8]) throws(DoctorError) {
        // The version first: a newer one may have other members.
        let head = try DoctorJSON.decode(Head.self, json, limit: Self.longestJSON)
        guard head.format == Self.format else {
            throw .malformed("it is no record of a machine: it has no \"format\": \"\(Self.format)\"")
        }
        guard head.version == Self.version else {
            throw head.version > Self.version ? .version(head.version) : .malformed("it has no valid version")
        }
        self = try DoctorJSON.decode(MachineRecord.self, json, limit: Self.longestJSON)
        try check()
    }

    /// A device of a record. Without a misspelled `modalias`, its driver would not be judged.
    struct StrictDevice: Decodable {
        let device: DeviceDriver

        private enum CodingKeys: String, CodingKey, CaseIterable { case modalias, driver, module }

        init(from decoder: any Decoder) throws {
            try StrictKeys.check(decoder, CodingKeys.self)
            device = try DeviceDriver(from: decoder)
        }
    }

    private struct Head: Decodable {
        var format: String
        var version: Int
    }

    package init(from decoder: any Decoder) throws {
        try StrictKeys.check(decoder, CodingKeys.self)
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            firmware: try container.decode(Firmware.self, forKey: .firmware),
            secureBoot: try container.decodeIfPresent(Bool.self, forKey: .secureBoot),
            architecture: try container.decode(String.self, forKey: .architecture),
            vendor: try container.decodeIfPresent(String.self, forKey: .vendor),
            product: try container.decodeIfPresent(String.self, forKey: .product),
            board: try container.decodeIfPresent(String.self, forKey: .board),
            firmwareVersion: try container.decodeIfPresent(String.self, forKey: .firmwareVersion),
            controllers: try container.decode([StrictDevice].self, forKey: .controllers).map(\.device),
            disks: try container.decode([Disk].self, forKey: .disks))
    }

    /// Refuses numbers and texts that no machine has.
    private func check() throws(DoctorError) {
        let devices = controllers + disks.flatMap(\.devices)
        guard devices.count <= Self.mostDevices, disks.count <= Self.mostDisks else {
            throw .malformed("it has more devices than any machine")
        }
        var texts: [String?] = [architecture, vendor, product, board, firmwareVersion]
        for disk in disks { texts += [disk.name, disk.model, disk.transport] }
        for device in devices { texts += [device.modalias, device.driver, device.module] }
        guard texts.allSatisfy({ DoctorText.isPlain($0 ?? "", limit: 1024) }) else {
            throw .malformed("a text in it is too long, or has control characters")
        }
        for disk in disks {
            guard (512...65536).contains(disk.sectorSize), disk.sectorSize & (disk.sectorSize - 1) == 0 else {
                throw .malformed("\(DoctorText.shown(disk.name)) has sectors of \(disk.sectorSize) bytes")
            }
        }
    }
}
