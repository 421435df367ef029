// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemAccess
import SystemPackage

/// GRUB started by UEFI firmware from the EFI system partition, directly or by a shim.
struct GrubEFI: BootLoader {
    let name = "grub-efi"
    let configurations = ["grub.cfg"]
    let codes: [FindingCode] = [.grubLoaderMissing, .grubLoaderLost, .grubFromMedium]

    /// Files beside a loader that its copy needs too, if they exist.
    static func companions(of loader: String) -> [String] {
        // A GRUB whose prefix is its own folder finds its configuration there.
        let configuration = ["grub.cfg"]
        // shim starts GRUB from its own folder, and the MOK manager to enroll keys.
        return isShim(loader)
            ? ["grubx64.efi", "grub.efi", "mmx64.efi", "MokManager.efi"] + configuration : configuration
    }

    /// Whether a file is a shim by its name: `shimx64.efi`; on openSUSE and SLES `shim.efi`.
    static func isShim(_ name: String) -> Bool { ["shimx64.efi", "shim.efi"].contains(name.lowercased()) }

    func survey(_ scene: BootScene) throws(BootRepairError) -> GrubEFIFinding? {
        guard let esp = scene.esp else { return nil }
        guard scene.system != nil else { return GrubEFIFinding(esp) }
        var finding = try surveyed(esp, scene)
        for (name, paths) in [
            ("grub-mkimage", ["/usr/bin/grub-mkimage", "/bin/grub-mkimage"]),
            ("x86_64-efi", ["\(GrubEFIWrite.ownFolder)/kernel.img"]),
        ] where paths.contains(where: { Files.exists(FilePath($0)) }) {
            finding.ownTools.append(name)
        }
        return finding
    }

    private func surveyed(_ esp: ESPContents, _ scene: BootScene) throws(BootRepairError) -> GrubEFIFinding {
        let anchor = try scene.anchored()
        let folder = GrubMenu.folder(in: anchor)
        let files = [
            "\(folder)/x86_64-efi/core.efi", "\(folder)/x86_64-efi/grub.efi",
            "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "/usr/lib/shim/shimx64.efi.signed",
        ]
        return GrubEFIFinding(esp, installed: files.compactMap { try? anchor.read($0) })
    }

    func plan(for target: BootTarget, after steps: [BootRepairStep]) -> LoaderPlan {
        var planner = GrubEFIPlanner(target)
        planner.planLoader()
        return planner.plan
    }

    func verify(_ disk: BlockDevice, volumes: [BootVolume]) -> String? {
        guard let esp = volumes.first(where: \.isESP) else { return nil }
        do throws(BlockIOError) { try disk.dropCache() } catch {
            return "the EFI system partition could not be read back: \(error)"
        }
        let contents = ESPReader.read(disk, volume: esp, configurations: configurations)
        if let problem = contents.survey.problem {
            return "the EFI system partition could not be read back: \(problem)"
        }
        let finding = GrubEFIFinding(contents)
        let isFound = finding.loaders.contains { loader in
            loader.searchedUUIDs.isEmpty
                || loader.searchedUUIDs.contains { uuid in
                    volumes.contains { $0.uuid?.lowercased() == uuid.lowercased() }
                }
        }
        return isFound
            ? nil : "the disk does not start by UEFI: no loader on its EFI system partition finds this system"
    }
}

extension FindingCode {
    static let grubLoaderMissing = FindingCode(
        "grub-loader-missing", .loader, .stops, "The EFI system partition holds no loader of the installed system",
        fix: "Boot repair runs the system's `grub-install` for UEFI, or makes GRUB from the medium's modules")
    static let grubFromMedium = FindingCode(
        "grub-from-medium", .loader, .note,
        "The installed system has no GRUB for the firmware of the machine: its updates do not reach the medium's",
        fix: "Install `grub-efi-amd64` or `grub-pc` (or what the distribution has for it) in the started system")
    static let grubLoaderLost = FindingCode(
        "grub-loader-lost", .loader, .stops, "GRUB for UEFI looks for a filesystem that is not on the disk",
        fix: "Boot repair runs the system's `grub-install` for UEFI")
}
