// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// A hypervisor for which disks are exported, and the machine that its users usually make.
package enum Hypervisor: String, CaseIterable, Sendable {
    case vmware, hyperv, kvm, virtualbox

    /// The name for the user.
    package var name: String {
        switch self {
        case .vmware: "VMware"
        case .hyperv: "Hyper-V"
        case .kvm: "KVM"
        case .virtualbox: "VirtualBox"
        }
    }

    /// A machine of the hypervisor, with one disk for each of its usual controllers.
    package func machine(firmware: Firmware) -> MachineRecord {
        let ways = ways(firmware)
        let controllers = ways.joined().filter { $0.modalias?.hasPrefix("pci:") == true }
            .reduce(into: [DeviceDriver]()) { if !$0.contains($1) { $0.append($1) } }
        let generation = self == .hyperv ? " of generation \(firmware == .uefi ? 2 : 1)" : ""
        return MachineRecord(
            firmware: firmware, vendor: name, product: "machine\(generation)", controllers: controllers,
            disks: ways.enumerated().map { number, devices in
                .init(name: "disk\(number)", transport: "virtual", byteCount: 0, devices: devices)
            })
    }

    /// The devices behind the disk for each controller, as Linux shows them in sysfs, from the disk upward. A device
    /// without a module here is a driver that some kernels have built in.
    private func ways(_ firmware: Firmware) -> [[DeviceDriver]] {
        switch self {
        case .vmware:
            // Linux: drivers/scsi/vmw_pvscsi.h, drivers/message/fusion/mptsas.c (LSI SAS1068), VMware's own AHCI.
            [
                [Self.disk, Self.pci(0x15AD, 0x07C0, 0x15AD, 0x07C0, "00i00", "vmw_pvscsi")],
                [Self.disk, Self.pci(0x1000, 0x0054, 0x15AD, 0x1976, "07i00", "mptsas")],
                [Self.disk, Self.pci(0x15AD, 0x07E0, 0x15AD, 0x07E0, "06i01", "ahci")],
            ]
        case .hyperv:
            // include/linux/hyperv.h: HV_SCSI_GUID, HV_IDE_GUID. A machine of generation 1 starts from its IDE
            // controller (PIIX4), which firmware and Windows' loader use; Linux leaves it to the synthetic one.
            firmware == .uefi
                ? [[Self.disk, Self.vmbus("d96361baa104294db60572e2ffb1dc7f"), Self.bus]]
                : [
                    [Self.disk, Self.vmbus("32264132cb86a2449b5c50d1417354f5"), Self.bus],
                    [Self.disk, Self.pci(0x8086, 0x7111, 0, 0, "01i80", "ata_piix")],
                ]
        case .kvm:
            // Virtual I/O Device 1.2, §5: devices 2 (block) and 8 (SCSI host); §4.1.2: PCI devices 0x1040 and on.
            [
                [
                    DeviceDriver(modalias: "virtio:d00000002v00001AF4", driver: "virtio_blk", module: "virtio_blk"),
                    Self.pci(0x1AF4, 0x1042, 0x1AF4, 0x1100, "00i00", "virtio-pci", isModule: false),
                ],
                [
                    Self.disk,
                    DeviceDriver(modalias: "virtio:d00000008v00001AF4", driver: "virtio_scsi", module: "virtio_scsi"),
                    Self.pci(0x1AF4, 0x1048, 0x1AF4, 0x1100, "00i00", "virtio-pci", isModule: false),
                ],
            ]
        case .virtualbox:
            // Intel ICH8M AHCI: the SATA controller of its usual machines.
            [[Self.disk, Self.pci(0x8086, 0x2829, 0, 0, "06i01", "ahci")]]
        }
    }

    /// A disk of a SCSI or ATA host. Its driver `sd` is in a module of another name.
    private static let disk = DeviceDriver(modalias: "scsi:t-0x00", driver: "sd_mod")
    private static let bus = DeviceDriver(modalias: "acpi:VMBUS:", driver: "hv_vmbus")

    private static func vmbus(_ bytes: String) -> DeviceDriver {
        DeviceDriver(modalias: "vmbus:\(bytes)", driver: "hv_storvsc", module: "hv_storvsc")
    }

    /// A mass storage controller on PCI (scripts/mod/file2alias.c).
    /// - Parameter kind: the digits of its subclass, `i`, and those of its interface.
    private static func pci(
        _ vendor: UInt16, _ device: UInt16, _ subsystemVendor: UInt16, _ subsystem: UInt16, _ kind: String,
        _ driver: String, isModule: Bool = true
    ) -> DeviceDriver {
        func digits(_ number: UInt16) -> String {
            let text = String(number, radix: 16, uppercase: true)
            return String(repeating: "0", count: 8 - text.count) + text
        }
        let numbers = "v\(digits(vendor))d\(digits(device))sv\(digits(subsystemVendor))sd\(digits(subsystem))"
        return DeviceDriver(modalias: "pci:\(numbers)bc01sc\(kind)", driver: driver, module: isModule ? driver : nil)
    }
}
