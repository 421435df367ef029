// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

/// Decides from a manifest whether its disk can be made to start by the other firmware. Pure.
struct FirmwareJudge {
    /// What is to be done with the partition table.
    enum Verdict: Equatable {
        /// Nothing: the disk starts by that firmware, or it is no disk that starts.
        case nothing
        /// It is converted.
        case convert
        /// It cannot be converted. The reason, as half a sentence.
        case stays(String)
    }

    let manifest: Manifest
    let goal: TableConversion.Goal
    /// Of the target, in bytes.
    let sectorSize: Int

    private var boot: BootSurvey { manifest.boot }

    func verdict() -> Verdict {
        guard manifest.table.kind == .gpt || manifest.table.kind == .mbr else {
            return .stays("the disk has no GPT or MBR")
        }
        if starts(by: goal) { return .nothing }
        guard starts(by: goal.other) else { return .stays("no boot loader was found on the disk") }
        if let windows { return .stays(windows) }
        guard hasGrub else {
            return .stays("only GRUB is installed anew for another firmware, and the disk starts by another loader")
        }
        guard hasReadableBoot else {
            return .stays("no filesystem was found from which GRUB could read its files (LUKS and md are not opened)")
        }
        switch (goal, manifest.table.kind) {
        case (.uefi, .mbr):
            return TableConverter.obstacle(toGPT: manifest.table).map(Verdict.stays) ?? .convert
        case (.uefi, _): return .convert
        case (.bios, .mbr): return .stays("the disk starts by UEFI from an MBR, which is left alone")
        case (.bios, _):
            guard sectorSize == 512 else {
                return .stays("BIOS does not start from disks with sectors of \(sectorSize) bytes")
            }
            return .convert
        }
    }

    /// Whether the captured disk starts by any firmware.
    var isMeantToStart: Bool { starts(by: .bios) || starts(by: .uefi) }

    /// Whether the captured disk starts by that firmware, as far as its bytes say.
    private func starts(by firmware: TableConversion.Goal) -> Bool {
        switch firmware {
        case .uefi: return !boot.efiLoaders.isEmpty
        case .bios:
            return boot.startsByBIOS(
                from: manifest.table.kind, attributes: manifest.table.partitions.map(\.attributes))
        }
    }

    /// Why Windows may be on the disk, as half a sentence; `nil` if nothing hints at it. Its BCD names partitions by
    /// their GUIDs or their disk's signature, and it does not start from an MBR by UEFI, or from a GPT by BIOS.
    private var windows: String? {
        if boot.efiLoaders.contains(where: { $0.lowercased().hasPrefix("\\efi\\microsoft\\") }) {
            return "Windows is on the disk, which starts only from its present table"
        }
        let region = manifest.regions.first { region in
            guard let filesystem = region.filesystem else { return false }
            return filesystem.kind == .ntfs || filesystem.kindName.lowercased() == "bitlocker"
        }
        guard let region else { return nil }
        return
            "Windows may be on the disk (partition \(region.partition ?? 0) has \(region.filesystem?.kindName ?? "")), "
            + "and starts only from its present table"
    }

    private var hasGrub: Bool {
        switch goal {
        case .uefi: boot.biosBootCode == "GRUB"
        case .bios:
            boot.efiLoaders.contains { path in
                let name = path.lowercased().split(separator: "\\").last ?? ""
                return ["grubx64.efi", "shimx64.efi", "shim.efi", "grub.efi"].contains(name)
            }
        }
    }

    /// Whether a partition or logical volume may hold GRUB's files.
    private var hasReadableBoot: Bool {
        func mayHold(_ filesystem: FilesystemInfo) -> Bool {
            filesystem.traits.grubModule != nil && filesystem.traits.mayHoldSystem
                || filesystem.kind == .lvm && (filesystem.inner ?? []).contains { mayHold($0.filesystem) }
        }
        return manifest.regions.contains { $0.partition != nil && $0.filesystem.map(mayHold) == true }
    }
}
