// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Emulator
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage

/// The virtual machine that suits a captured system, as far as its description tells.
struct MachineChoice: Equatable {
    var isUEFI: Bool
    var bus: MachineSettings.DiskBus
    var clock: MachineSettings.Clock
    var memoryByteCount: UInt64
    var usesKVM: Bool

    private static let usualMemory: UInt64 = 2 << 30
    private static let leastMemory: UInt64 = 256 << 20

    /// - Parameters:
    ///   - freeMemory: what this machine has to spare, in bytes; `nil` if unknown.
    ///   - hasKVM: whether this process may use KVM.
    init(_ options: MachineOptions, _ manifest: Manifest, freeMemory: UInt64?, hasKVM: Bool) throws {
        guard ["x86_64", "unknown", ""].contains(manifest.machine.architecture) else {
            throw JobFailure(
                .usage,
                "the system was captured on a machine of the architecture \(manifest.machine.architecture): only x86_64 can be started"
            )
        }
        switch options.firmware {
        case "bios": isUEFI = false
        case "uefi": isUEFI = true
        case nil: isUEFI = Self.needsUEFI(manifest)
        default: throw JobFailure(.usage, "--firmware takes bios or uefi")
        }
        let large = manifest.geometry.logicalSectorSize != 512
        if let text = options.diskBus {
            guard let bus = MachineSettings.DiskBus(rawValue: text) else {
                throw JobFailure(
                    .usage, "--disk takes \(MachineSettings.DiskBus.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            guard !large || bus.takesLargeSectors else {
                throw JobFailure(
                    .usage,
                    "the disk has sectors of 4096 bytes, which QEMU's \(text) disks cannot have: take nvme, virtio or scsi"
                )
            }
            self.bus = bus
        } else {
            // The initramfs of a system has the drivers of its own disk; SATA is in nearly all.
            let known = ["nvme": MachineSettings.DiskBus.nvme, "virtio": .virtio][manifest.disk.transport]
            bus = known ?? (large ? .nvme : .sata)
        }
        let kinds = manifest.regions.compactMap(\.filesystem?.kind)
        clock =
            kinds.contains(.ntfs) && !kinds.contains { [.ext2, .ext3, .ext4, .xfs, .btrfs].contains($0) }
            ? .localtime : .utc
        let half = freeMemory.map { $0 / 2 } ?? Self.usualMemory
        memoryByteCount = options.memoryByteCount ?? max(Self.leastMemory, min(Self.usualMemory, half))
        guard memoryByteCount >= 64 << 20, memoryByteCount <= 1 << 44 else {
            throw JobFailure(.usage, "--memory takes 64M or more")
        }
        usesKVM = options.usesKVM && hasKVM
    }

    /// A disk may boot both ways; then the machine it was captured on decides, unless it was only a file there.
    private static func needsUEFI(_ manifest: Manifest) -> Bool {
        guard !manifest.boot.efiLoaders.isEmpty else { return false }
        guard manifest.boot.biosBootCode != nil else { return true }
        return manifest.disk.transport != "file" && manifest.machine.firmware == "uefi"
    }

    /// The serial number of the captured disk, as far as QEMU takes it: names below /dev/disk/by-id have it.
    static func serial(_ manifest: Manifest) -> String? {
        let plain = (manifest.disk.serial ?? "").filter {
            $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0))
        }
        return plain.isEmpty ? nil : String(plain.prefix(20))
    }

    /// Whether this process may use KVM.
    static var hasKVM: Bool { (try? OwnedDescriptor.open("/dev/kvm", .readWrite)) != nil }
}

/// OVMF, and the variables that a captured system needs from its firmware.
enum MachineFirmware {
    /// OVMF's code and its empty variables, where distributions have them.
    static let places: [(code: FilePath, variables: FilePath)] = [
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
        ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ]

    /// Writes the machine's own variables: those of the captured machine's boot menu, or an entry for a loader that a
    /// firmware does not find by itself.
    static func prepare(_ manifest: Manifest, in folder: FilePath) throws -> MachineSettings.Firmware {
        guard let place = places.first(where: { Files.exists($0.code) && Files.exists($0.variables) }) else {
            throw EmulatorError.missing(program: "OVMF", package: "ovmf")
        }
        let template = try Files.read(place.variables, limit: 16 << 20)
        var bytes = template
        if var store = FirmwareVariables(template: template), store.add(bootEntries(manifest)) { bytes = store.bytes }
        let path = folder.appending("variables.fd")
        try Files.write(bytes, to: path, permissions: .ownerReadWrite)
        return .uefi(code: place.code, variables: path)
    }

    /// The variables: the entries in their order, and the order.
    static func bootEntries(_ manifest: Manifest) -> [(name: String, value: [UInt8])] {
        let order = Hexadecimal.bytes(manifest.machine.bootOrder ?? "") ?? []
        var entries: [(name: String, value: [UInt8])] = []
        var numbers: [UInt8] = []
        for start in stride(from: 0, to: min(order.count, 128) - 1, by: 2) {
            let digits = String(UInt16(order[start]) | UInt16(order[start + 1]) << 8, radix: 16, uppercase: true)
            let name = "Boot" + String(repeating: "0", count: 4 - digits.count) + digits
            guard let text = manifest.machine.bootEntries[name], let value = Hexadecimal.bytes(text), !value.isEmpty,
                value.count <= 4096
            else { continue }
            entries.append((name, value))
            numbers += order[start...start + 1]
        }
        if entries.isEmpty, let own = ownEntry(manifest) {
            entries = [("Boot0001", own)]
            numbers = [1, 0]
        }
        return entries.isEmpty ? [] : entries + [("BootOrder", numbers)]
    }

    /// An entry for the loader, if it is not at the place that every firmware tries (UEFI 2.10 §3.5.1.1).
    private static func ownEntry(_ manifest: Manifest) -> [UInt8]? {
        let loaders = manifest.boot.efiLoaders
        guard !loaders.contains(where: { $0.lowercased().hasSuffix("\\efi\\boot\\bootx64.efi") }) else { return nil }
        let known = ["shimx64.efi", "shim.efi", "grubx64.efi", "grub.efi", "systemd-bootx64.efi", "bootmgfw.efi"]
        let loader =
            known.lazy.compactMap { name in loaders.first { $0.lowercased().hasSuffix("\\\(name)") } }.first
            ?? loaders.first
        // The type of EFI system partitions: UEFI 2.10 §5.3.3.
        let type = GUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
        let sector = UInt64(max(512, manifest.geometry.logicalSectorSize))
        guard let loader, manifest.table.kind == .gpt,
            let partition = manifest.table.partitions.first(where: { $0.typeGUID == type }),
            let number = UInt32(exactly: partition.number)
        else { return nil }
        return FirmwareVariables.loadOption(
            "captured system", partition: partition.guid, number: number,
            firstSector: partition.range.lowerBound / sector, sectorCount: partition.range.byteCount / sector,
            file: loader)
    }
}

extension FirmwareVariables {
    /// Adds all of them, or says that there is no room.
    fileprivate mutating func add(_ variables: [(name: String, value: [UInt8])]) -> Bool {
        variables.allSatisfy { add($0.name, $0.value) }
    }
}
