// SPDX-License-Identifier: GPL-3.0-or-later

/// GRUB started by UEFI firmware from the EFI system partition, by itself or by a shim.
struct GrubEFI: BootLoader {
    let name = "grub-efi"

    /// Files beside a loader that a copy of it needs, where they are there.
    static func companions(of loader: String) -> [String] {
        // A GRUB whose prefix is the folder that it was started from finds its configuration there.
        let configuration = ["grub.cfg"]
        // shim starts grubx64.efi from its own folder, and the MOK manager where keys are to be enrolled.
        return loader.lowercased() == "shimx64.efi" ? ["grubx64.efi", "mmx64.efi"] + configuration : configuration
    }
}
