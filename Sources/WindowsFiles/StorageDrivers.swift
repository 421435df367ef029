// SPDX-License-Identifier: GPL-3.0-or-later

/// The drivers of Windows for disk controllers, by the kernel's description of a controller (its modalias).
///
/// Names are those of the services: of Windows itself (storahci.inf, stornvme.inf, mshdc.inf, megasas.inf, lsi_sas.inf,
/// …), of Intel's RST and VMD packages, of virtio-win and of VMware Tools.
package enum StorageDrivers {
    /// A controller on the way to a disk, and the services of which one must start with the system.
    package struct Need: Codable, Equatable, Sendable {
        /// For the user: "AHCI".
        package var controller: String
        /// Which of them is right depends on the version of Windows and on the controller's model. Windows loads all of
        /// them, and starts the one that knows the controller.
        package var services: [String]

        package init(_ controller: String, _ services: [String]) {
            self.controller = controller
            self.services = services
        }
    }

    /// All services of the table, each once.
    package static let allServices: [String] = rows.flatMap { $0.needs.flatMap(\.services) }.reduce(into: []) {
        if !$0.contains($1) { $0.append($1) }
    }

    /// What the controllers on the way to a disk need; empty if none of them is known.
    /// - Parameter modaliases: of the disk's device and of all devices above it, in any order.
    package static func needs(for modaliases: [String]) -> [Need] {
        let devices = modaliases.compactMap(Device.init)
        // Behind Intel's RAID functions (RST, VMD), its driver drives the NVMe and AHCI disks too.
        if let row = rows.first, devices.contains(where: row.matches) { return row.needs }
        return rows.filter { row in devices.contains(where: row.matches) }.flatMap(\.needs).reduce(into: []) {
            if !$0.contains($1) { $0.append($1) }
        }
    }

    /// A device according to its modalias (Linux, scripts/mod/file2alias.c).
    enum Device: Equatable {
        case pci(vendor: UInt32, device: UInt32, baseClass: UInt8, subclass: UInt8, interface: UInt8)
        case virtio(UInt32)
        /// 16 bytes in hexadecimal digits.
        case vmbus(String)

        init?(_ modalias: String) {
            func number(after mark: String, digits: Int, in text: Substring) -> UInt32? {
                var rest = text
                while !rest.isEmpty, !rest.hasPrefix(mark) { rest.removeFirst() }
                let field = rest.dropFirst(mark.count).prefix(digits)
                return field.count == digits ? UInt32(field, radix: 16) : nil
            }
            guard modalias.utf8.count < 512, let colon = modalias.firstIndex(of: ":") else { return nil }
            let text = modalias[modalias.index(after: colon)...]
            switch modalias[..<colon] {
            case "pci":
                guard let vendor = number(after: "v", digits: 8, in: text),
                    let device = number(after: "d", digits: 8, in: text),
                    let baseClass = number(after: "bc", digits: 2, in: text),
                    // "sc" only: "sv" and "sd" are the subsystem's numbers.
                    let subclass = number(after: "sc", digits: 2, in: text),
                    let interface = number(after: "i", digits: 2, in: text)
                else { return nil }
                self = .pci(
                    vendor: vendor, device: device, baseClass: UInt8(truncatingIfNeeded: baseClass),
                    subclass: UInt8(truncatingIfNeeded: subclass), interface: UInt8(truncatingIfNeeded: interface))
            case "virtio":
                guard let device = number(after: "d", digits: 8, in: text) else { return nil }
                self = .virtio(device)
            case "vmbus": self = .vmbus(text.lowercased())
            default: return nil
            }
        }
    }

    private struct Row: Sendable {
        let needs: [Need]
        let matches: @Sendable (Device) -> Bool
    }

    /// Mass storage controllers of a subclass (PCI Code and ID Assignment Specification, base class 01h).
    private static func storage(_ subclass: UInt8, _ interface: UInt8? = nil, vendor: UInt32? = nil)
        -> @Sendable (Device) -> Bool
    {
        {
            guard case .pci(let itsVendor, _, 1, subclass, let itsInterface) = $0 else { return false }
            return (interface ?? itsInterface) == itsInterface && (vendor ?? itsVendor) == itsVendor
        }
    }

    private static func pci(_ vendor: UInt32, _ devices: [ClosedRange<UInt32>]) -> @Sendable (Device) -> Bool {
        {
            guard case .pci(vendor, let device, _, _, _) = $0 else { return false }
            return devices.contains { $0.contains(device) }
        }
    }

    /// Intel's RAID functions first: see `needs(for:)`.
    private static let rows: [Row] = [
        Row(
            needs: [
                Need("Intel RST or VMD", ["iaStorVD", "iaStorAC", "iaStorAVC", "iaStorA", "iaStorV", "iaStor"])
            ], matches: storage(4, vendor: 0x8086)),
        Row(needs: [Need("NVMe", ["stornvme"])], matches: storage(8, 2)),
        Row(needs: [Need("AHCI", ["storahci", "msahci"])], matches: storage(6, 1)),
        Row(
            needs: [Need("IDE", ["pciide", "intelide"]), Need("IDE channels", ["atapi"])], matches: storage(1)),
        Row(needs: [Need("virtio disk", ["viostor"])]) {
            if case .virtio(2) = $0 { true } else { pci(0x1AF4, [0x1001...0x1001, 0x1042...0x1042])($0) }
        },
        Row(needs: [Need("virtio SCSI", ["vioscsi"])]) {
            if case .virtio(8) = $0 { true } else { pci(0x1AF4, [0x1004...0x1004, 0x1048...0x1048])($0) }
        },
        // HV_SCSI_GUID and HV_IDE_GUID of Linux's include/linux/hyperv.h, in the order of their bytes.
        Row(needs: [Need("Hyper-V", ["storvsc"]), Need("Hyper-V bus", ["vmbus"])]) {
            $0 == .vmbus("d96361baa104294db60572e2ffb1dc7f") || $0 == .vmbus("32264132cb86a2449b5c50d1417354f5")
        },
        Row(needs: [Need("VMware paravirtual SCSI", ["pvscsi", "pvscsii"])], matches: pci(0x15AD, [0x07C0...0x07C0])),
        // Device numbers: Linux, drivers/message/fusion, mpt3sas and megaraid_sas.
        Row(needs: [Need("LSI SCSI", ["LSI_SCSI", "symmpi"])], matches: pci(0x1000, [0x0030...0x0030])),
        Row(needs: [Need("LSI SAS", ["LSI_SAS"])], matches: pci(0x1000, [0x0050...0x0050, 0x0054...0x0058])),
        Row(
            needs: [Need("LSI SAS 2", ["LSI_SAS2", "LSI_SAS2i"])],
            matches: pci(0x1000, [0x0064...0x0065, 0x0070...0x0070, 0x0072...0x0072, 0x0074...0x0077, 0x0080...0x0087])),
        Row(
            needs: [Need("LSI SAS 3", ["LSI_SAS3", "LSI_SAS3i"])],
            matches: pci(0x1000, [0x0090...0x0097, 0x00AA...0x00AF, 0x00C0...0x00C9])),
        Row(
            needs: [Need("MegaRAID", ["megasas", "megasas2i", "megasas35i"])],
            matches: pci(
                0x1000,
                [
                    0x0014...0x0017, 0x002F...0x002F, 0x0052...0x0053, 0x005B...0x005B, 0x005D...0x005D,
                    0x005F...0x0060, 0x0071...0x0071, 0x0073...0x0073, 0x0078...0x0079, 0x007C...0x007C,
                    0x00CE...0x00CF, 0x0411...0x0411, 0x0413...0x0413, 0x10E0...0x10E7,
                ])),
        Row(needs: [Need("SD host", ["sdbus"]), Need("SD card", ["sdstor"])]) {
            if case .pci(_, _, 8, 5, _) = $0 { true } else { false }
        },
    ]
}
