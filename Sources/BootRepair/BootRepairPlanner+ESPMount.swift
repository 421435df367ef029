// SPDX-License-Identifier: GPL-3.0-or-later
import SystemAccess

extension BootRepairPlanner {
    /// Plans the line of fstab for an EFI system partition that gets this system's loader: the system's own tools
    /// update the loader through its mount point.
    mutating func planESPMount(_ loader: PlannedLoader?) {
        guard loader?.isNew == true, let system = target.system, !system.fstab.isEmpty, let esp = survey.esp,
            let uuid = survey.volume(esp.partition)?.uuid, GrubConfiguration.looksLikeUUID(uuid[...]),
            !system.fstab.contains(where: {
                $0.partition == esp.partition || ["/boot/efi", "/efi", "/boot"].contains($0.mountPoint) && $0.isFAT
            })
        else { return }
        // Without it the system starts, too: nofail.
        let line = "UUID=\(uuid) \(target.espMountPoint) vfat umask=0077,nofail 0 2"
        draft.find(
            .espNotMounted, "/etc/fstab does not mount the EFI system partition", at: .file("/etc/fstab"),
            fixedBy: [
                BootRepairStep(
                    "add \(target.espMountPoint) to /etc/fstab (\(line))",
                    .addLines(
                        LineAddition(
                            TreePath(.system, "/etc/fstab"), [line],
                            done: "added \(target.espMountPoint) to /etc/fstab")))
            ])
    }
}

extension FstabEntry {
    fileprivate var isFAT: Bool { ["vfat", "msdos", "auto"].contains(type) }
}

extension FindingCode {
    static let espNotMounted = FindingCode(
        "esp-not-mounted", .references, .note,
        "fstab does not mount the EFI system partition, so that updates of the system do not reach its loader",
        fix: "Boot repair adds the line when it installs the loader")
}
