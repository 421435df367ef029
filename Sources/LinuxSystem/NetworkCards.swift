// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// A network card of this machine, and the names that a system with systemd-udevd may give it
/// (systemd.net-naming-scheme(7)).
package struct NetworkCard: Codable, Equatable, Sendable {
    /// The kernel's name: `eth0`; in a started system, the one that it got.
    package var name: String
    /// Its hardware address, in lower case.
    package var address: String
    /// The possible names, the most likely first: by firmware's index, slot, place on the bus, address.
    package var likelyNames: [String]

    package init(name: String, address: String, likelyNames: [String] = []) {
        self.name = name
        self.address = address
        self.likelyNames = likelyNames
    }

    /// The cards of this machine; no bridges and other interfaces without hardware.
    package static func all(sys: FilePath = "/sys") -> [NetworkCard] {
        let folder = sys.appending("class/net")
        return Files.names(in: folder).sorted().compactMap { name in
            let own = folder.appending(name)
            guard Files.exists(own.appending("device")) else { return nil }
            let address = (Files.text(own.appending("address")) ?? "").trimmed.lowercased()
            return NetworkCard(name: name, address: address, likelyNames: names(of: own, address, sys))
        }
    }

    private static func names(of card: FilePath, _ address: String, _ sys: FilePath) -> [String] {
        // "wl" for wireless, "ww" for mobile broadband; others are Ethernet.
        let prefix = Files.exists(card.appending("wireless")) || Files.exists(card.appending("phy80211")) ? "wl" : "en"
        let bySuffix = address.isEmpty ? [] : ["\(prefix)x\(address.filter { $0 != ":" })"]
        // The device may be below its PCI function: virtio, USB.
        guard let real = Files.realPath(card.appending("device")) else { return bySuffix }
        let parts = real.components.map(\.string)
        guard let index = parts.lastIndex(where: { PCIAddress($0) != nil }), let place = PCIAddress(parts[index])
        else { return bySuffix }
        // USB names continue with the port: only the start is known here.
        guard !parts[index...].contains(where: { $0.hasPrefix("usb") }) else { return bySuffix }
        var device = FilePath("/")
        for part in parts[...index] { device.append(part) }
        let port = Files.text(card.appending("dev_port")).flatMap { Int($0.trimmed) } ?? 0
        let portSuffix = port > 0 ? "d\(port)" : ""
        var names: [String] = []
        for file in ["acpi_index", "index"] {
            let number = Files.text(device.appending(file)).flatMap { Int($0.trimmed) }
            if let number, number > 0, number < 1 << 14 { names.append("\(prefix)o\(number)\(portSuffix)") }
        }
        let function = place.function > 0 || place.isMultifunction(device) ? "f\(place.function)" : ""
        for slot in Files.names(in: sys.appending("bus/pci/slots")).sorted() {
            let slotAddress = Files.text(sys.appending("bus/pci/slots").appending(slot).appending("address"))?.trimmed
            if slotAddress == place.withoutFunction, slot.allSatisfy(\.isNumber) {
                names.append("\(prefix)s\(slot)\(function)\(portSuffix)")
            }
        }
        let domain = place.domain > 0 ? "P\(place.domain)" : ""
        names.append("\(prefix)\(domain)p\(place.bus)s\(place.slot)\(function)\(portSuffix)")
        return names + bySuffix
    }
}

/// The address of a PCI function: `0000:00:1f.2`.
private struct PCIAddress {
    let domain: Int
    let bus: Int
    let slot: Int
    let function: Int
    let withoutFunction: String

    init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0].count >= 4, parts[1].count == 2 else { return nil }
        let last = parts[2].split(separator: ".", omittingEmptySubsequences: false)
        guard last.count == 2, let domain = Int(parts[0], radix: 16), let bus = Int(parts[1], radix: 16),
            let slot = Int(last[0], radix: 16), let function = Int(last[1], radix: 16)
        else { return nil }
        self.domain = domain
        self.bus = bus
        self.slot = slot
        self.function = function
        withoutFunction = "\(parts[0]):\(parts[1]):\(last[0])"
    }

    /// Whether the device says that it has several functions (PCI header type, bit 7).
    func isMultifunction(_ device: FilePath) -> Bool {
        guard let bytes = try? Files.read(device.appending("config"), limit: 64), bytes.count > 14 else { return false }
        return bytes[14] & 0x80 != 0
    }
}
