// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// GRUB started by UEFI firmware from the EFI system partition, directly or by a shim.
struct GrubEFI: BootLoader {
    let name = "grub-efi"
    let configurations = ["grub.cfg"]
    let codes: [FindingCode] = [.grubLoaderMissing, .grubLoaderLost]

    /// Files beside a loader that its copy needs too, if they exist.
    static func companions(of loader: String) -> [String] {
        // A GRUB whose prefix is its own folder finds its configuration there.
        let configuration = ["grub.cfg"]
        // shim starts grubx64.efi from its own folder, and the MOK manager to enroll keys.
        return loader.lowercased() == "shimx64.efi" ? ["grubx64.efi", "mmx64.efi"] + configuration : configuration
    }

    func survey(_ scene: BootScene) throws(BootRepairError) -> GrubEFIFinding? {
        guard let esp = scene.esp else { return nil }
        guard scene.system != nil else { return GrubEFIFinding(esp) }
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
}

extension FindingCode {
    static let grubLoaderMissing = FindingCode(
        "grub-loader-missing", .loader, .stops, "The EFI system partition holds no loader of the installed system",
        fix: "Boot repair runs the system's `grub-install` for UEFI")
    static let grubLoaderLost = FindingCode(
        "grub-loader-lost", .loader, .stops, "GRUB for UEFI looks for a filesystem that is not on the disk",
        fix: "Boot repair runs the system's `grub-install` for UEFI")
}
