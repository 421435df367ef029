// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// GRUB started by a BIOS: boot code in block 0, which loads core.img, which finds /boot/grub.
struct GrubBIOS: BootLoader {
    let name = "grub-bios"

    /// GRUB's parts for BIOS on the medium, or on this workstation.
    static let ownFolder = "/usr/lib/grub/i386-pc"
    /// What grub-mkimage reads of a folder of modules.
    static let moduleEndings = [".mod", ".img", "moddep.lst"]

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
