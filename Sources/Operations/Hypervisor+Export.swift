// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ImageModel
import JobModel

extension Hypervisor {
    /// The hypervisor that an option names; `nil` without one.
    static func chosen(_ name: String?) throws(JobFailure) -> Hypervisor? {
        guard let name else { return nil }
        guard let hypervisor = Hypervisor(rawValue: name) else {
            let names = allCases.map(\.rawValue).joined(separator: ", ")
            throw JobFailure(.usage, "\(name) is no hypervisor: --for takes \(names)")
        }
        return hypervisor
    }

    /// The formats that it starts machines from, the usual one first.
    var formats: [ExportFormat] {
        switch self {
        case .vmware: [.vmdk]
        case .hyperv: [.vhdx, .vhd]
        case .kvm: [.qcow2, .raw]
        case .virtualbox: [.vdi, .vmdk]
        }
    }

    /// Refuses a format that it does not start machines from.
    func refuse(_ format: ExportFormat) throws(JobFailure) {
        guard !formats.contains(format) else { return }
        throw JobFailure(
            .usage,
            "\(name) does not start from \(format.rawValue): --for \(rawValue) goes with "
                + formats.map(\.rawValue).joined(separator: " or "))
    }

    /// Refuses a format that does not go with the firmware.
    func refuse(_ format: ExportFormat, _ firmware: Firmware) throws(JobFailure) {
        guard self == .hyperv, format == .vhd, firmware == .uefi else { return }
        throw JobFailure(
            .usage,
            "the system starts by UEFI, for which Hyper-V has machines of generation 2, and these take no vhd: choose vhdx"
        )
    }

    /// The firmware of a machine for a disk: that of its loader, or of the captured machine if that says nothing.
    static func firmware(_ found: MachineStart.Firmware, _ manifest: Manifest) -> Firmware {
        switch found {
        case .uefi: .uefi
        case .bios: .bios
        case .either, .unknown: manifest.machine.firmware == "uefi" ? .uefi : .bios
        }
    }

    /// How a machine is made that starts from the disk.
    /// - Parameter path: the file.
    func advice(_ firmware: Firmware, _ path: String) -> String {
        let bios = firmware == .bios
        return switch self {
        case .vmware:
            "VMware: a machine with \(firmware) firmware, and the disk on a paravirtual (PVSCSI), LSI Logic SAS or SATA "
                + "controller. ESXi first needs a copy of its own kind: vmkfstools -i \(path) NEW.vmdk -d thin"
        case .hyperv where bios:
            "Hyper-V: a machine of generation 1, and the disk on its IDE controller"
        case .hyperv:
            "Hyper-V: a machine of generation 2. For Linux, with the Secure Boot template \"Microsoft UEFI Certificate "
                + "Authority\", or without Secure Boot"
        case .kvm:
            "KVM: a machine with \(firmware) firmware, and the disk on virtio-blk or virtio-scsi"
        case .virtualbox:
            "VirtualBox: a machine \(bios ? "without" : "with") EFI, and the disk on its SATA (AHCI) controller"
        }
    }
}
