// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemAccess
import SystemPackage

/// GRUB started by a BIOS: boot code in block 0, which loads core.img, which finds /boot/grub.
struct GrubBIOS: BootLoader {
    let name = "grub-bios"
    let codes: [FindingCode] = [
        .bootCodeForeign, .grubBootCodeMissing, .grubCoreMisdirected, .grubCoreMissing, .grubSectorSize,
    ]

    /// GRUB's files for BIOS on the medium, or on this workstation.
    static let ownFolder = "/usr/lib/grub/i386-pc"
    /// The files that grub-mkimage reads from a folder of modules.
    static let moduleEndings = [".mod", ".img", "moddep.lst"]

    func survey(_ scene: BootScene) throws(BootRepairError) -> GrubBIOSFinding? {
        var installedCore: [UInt8]?
        if scene.system != nil {
            let anchor = try scene.anchored()
            installedCore = try? anchor.read("\(GrubMenu.folder(in: anchor))/i386-pc/core.img")
        }
        var finding: GrubBIOSFinding
        do {
            finding = try GrubBIOSReader.read(scene.disk, volumes: scene.volumes, installedCore: installedCore)
        } catch { throw .inputOutput(error) }
        finding.ownTools = Self.ownTools()
        return finding
    }

    private static func ownTools() -> [String] {
        var tools: [String] = []
        for (name, paths) in [
            ("grub-mkimage", ["/usr/bin/grub-mkimage", "/bin/grub-mkimage"]), ("boot.img", ["\(ownFolder)/boot.img"]),
            ("i386-pc", ["\(ownFolder)/kernel.img"]),
        ] where paths.contains(where: { Files.exists(FilePath($0)) }) {
            tools.append(name)
        }
        return tools
    }

    func plan(for target: BootTarget, after steps: [BootRepairStep]) -> LoaderPlan {
        var planner = GrubBIOSPlanner(target)
        planner.planChain()
        return planner.plan
    }

    func verify(_ disk: BlockDevice, volumes: [BootVolume]) -> String? {
        do throws(BlockIOError) {
            try disk.dropCache()
            let finding = try GrubBIOSReader.read(disk, volumes: volumes)
            guard finding.chain != .right else { return nil }
            return "the disk does not start by BIOS: \(finding.problem ?? "\(finding.chain)")"
        } catch {
            return "the BIOS boot chain could not be read back: \(error)"
        }
    }
}

extension FindingCode {
    static let bootCodeForeign = FindingCode(
        "boot-code-foreign", .bootCode, .note, "The boot code in block 0 is none that Reforge knows",
        fix: "It is kept, and not judged")
    static let grubBootCodeMissing = FindingCode(
        "grub-boot-code-missing", .bootCode, .stops, "GRUB's core.img is on the disk, but block 0 holds no boot code",
        fix: "Boot repair runs the system's `grub-install`, or writes GRUB's boot code")
    static let grubCoreMisdirected = FindingCode(
        "grub-core-misdirected", .bootCode, .stops,
        "GRUB's boot code, or the block list of its core.img, points to the wrong sector",
        fix: "Boot repair runs the system's `grub-install`, or corrects the sector numbers")
    static let grubCoreMissing = FindingCode(
        "grub-core-missing", .bootCode, .stops, "GRUB's core.img is missing or damaged",
        fix: "Boot repair runs the system's `grub-install`, or writes a core.img")
    static let grubSectorSize = FindingCode(
        "grub-sector-size", .bootCode, .stops, "GRUB does not start from disks with large sectors by BIOS",
        fix: "Switch the machine's firmware to UEFI, or use a disk with sectors of 512 bytes")
}
