// SPDX-License-Identifier: GPL-3.0-or-later
import SystemAccess

/// The installed system: whether it was read, its kernels, and its files' references to the disk.
extension BootRepairPlanner {
    mutating func judgeSystem() {
        for finding in survey.systemFindings { draft.find(finding) }
    }

    mutating func judgeKernels() {
        guard let system = target.system else { return }
        if system.kernels.isEmpty, !target.hasKernelsForLoader {
            draft.find(
                .kernelMissing, "there is no kernel in /boot of \(system.name)", at: .file("/boot"),
                unfixed: "install one in the system, started from its rescue medium")
        }
        for place in system.lostResume {
            draft.loseResume(of: place, system, at: .file("/etc/initramfs-tools/conf.d"))
        }
    }

    mutating func planFstab() {
        guard let system = target.system else { return }
        var changes: [FstabChange] = []
        for entry in system.fstab {
            switch entry.resolution {
            case .moved(let number):
                guard let uuid = survey.volume(number)?.uuid else { continue }
                changes.append(
                    FstabChange(line: entry.line, from: entry.device, to: "UUID=\(uuid)", mountPoint: entry.mountPoint))
            case .elsewhere where !entry.isOptional: find(elsewhere: entry)
            default: break
            }
        }
        if !changes.isEmpty {
            draft.find(
                .fstabDeviceName,
                "/etc/fstab names partitions by device names, which may be others on this machine "
                    + "(\(changes.map(\.from).joined(separator: ", ")))",
                at: .file("/etc/fstab", line: changes.first.map { $0.line + 1 }), fixedBy: [.fixFstab(changes)])
        } else if system.fstab.contains(where: { $0.partition != nil }) {
            draft.alreadyRight.append("/etc/fstab names this disk's partitions by identifiers that a restore keeps")
        }
    }

    private mutating func find(elsewhere entry: FstabEntry) {
        let evidence = Finding.Evidence.file("/etc/fstab", line: entry.line + 1)
        guard entry.mountPoint != "/" else {
            draft.find(
                .fstabRootElsewhere, "/etc/fstab: / is on \(entry.device), which is not on this disk",
                at: evidence, unfixed: "not changed: correct the line")
            return
        }
        draft.find(
            .fstabElsewhere, "/etc/fstab: \(entry.mountPoint) is on \(entry.device), which is not on this disk",
            at: evidence,
            unfixed: "not changed. If that disk is missing, the system waits for it and starts in emergency mode")
    }
}

extension LoaderPlan {
    /// Records a device from which the system resumes, and which this disk does not have.
    package mutating func loseResume(of place: String, _ system: InstalledSystem, at evidence: Finding.Evidence) {
        find(
            .resumeLost,
            "\(system.name) resumes from hibernation on \(place), which is not on this disk by that name",
            at: evidence, unfixed: "it may wait for it at each start")
    }
}
