// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ByteParsing
import DiskModel
import SystemAccess

extension IdentityPlanner {
    /// Plans new identifiers of volumes, and the files that refer to them. A volume that is named where Reforge cannot
    /// follow keeps its identifier.
    /// - Parameter renews: whether new identifiers are asked for; otherwise only an interrupted change is finished.
    mutating func planVolumes(renews: Bool) {
        var changes: [VolumeChange] = []
        if renews {
            let general = generalObstacle
            if let general { draft.pending.append("the filesystems keep their UUIDs: \(general)") }
            for volume in survey.volumes where general == nil {
                guard let change = planned(volume) else { continue }
                if let obstacle = obstacle(to: change, of: volume) {
                    draft.pending.append("\(volume.place) (\(volume.kindName)) keeps \(change.change.old): \(obstacle)")
                } else {
                    changes.append(change)
                }
            }
        }
        for change in changes {
            add(
                .uuids, "give \(change.place) (\(change.kind.rawValue)) a new identifier (\(change.change))",
                .changeVolume(change))
        }
        let all = draft.unfinished + changes.map(\.change)
        guard !all.isEmpty else { return }
        for text in survey.texts where !IdentityFiles.embedded.contains(text.path) {
            let present = IdentifierText.present(all, in: text.bytes)
            guard !present.isEmpty else { continue }
            add(
                .uuids, "follow in \(text.path) (\(present.count) identifier\(present.count == 1 ? "" : "s"))",
                .replaceIdentifiers(path: text.path))
        }
        planInitramfs(for: changes)
    }

    /// The reason why no identifier can change; `nil` if they can.
    private var generalObstacle: String? {
        if let problem = survey.mountProblems.first(where: { $0.path == "/etc" || $0.path.hasPrefix("/boot") }) {
            return "\(problem.path) could not be mounted (\(problem.reason)), and may refer to them"
        }
        if survey.esp != nil, survey.espFolder == nil {
            return "the EFI system partition could not be mounted, and may refer to them"
        }
        if let file = survey.unread.first {
            return "\(file.path) may refer to them, and cannot be read (\(file.reason))"
        }
        return nil
    }

    /// The change of a volume; `nil` if there is no way, with a remark.
    private mutating func planned(_ volume: BootVolume) -> VolumeChange? {
        guard let old = volume.uuid, !old.isEmpty, let fresh = survey.fresh[volume.number],
            // It got its new identifier before the interruption.
            !draft.unfinished.contains(where: { $0.new.lowercased() == old.lowercased() })
        else { return nil }
        guard let method = VolumeChange.method(for: volume.kind) else {
            if volume.kind != .lvm, volume.kind != .unknown {
                draft.warnings.append(
                    "\(volume.place) (\(volume.kindName)) keeps \(old): there is no way to change it here")
            }
            return nil
        }
        return VolumeChange(volume, method, IdentifierChange(old, to: Self.identifier(like: old, from: fresh)))
    }

    /// A random identifier of the form of an old one.
    static func identifier(like old: String, from fresh: GUID) -> String {
        let digits = fresh.textOrderBytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16, uppercase: true) }.joined()
        switch old.utf8.count {
        case 9: return digits.prefix(4) + "-" + digits.dropFirst(16).prefix(4)
        case 16: return String(digits.prefix(8) + digits.dropFirst(16).prefix(8))
        default: return fresh.description
        }
    }

    /// Why a volume must keep its identifier, as a sentence part; `nil` if it need not.
    private func obstacle(to change: VolumeChange, of volume: BootVolume) -> String? {
        if let obstacle = survey.obstacles[volume.number] { return obstacle }
        if survey.volumes.contains(where: { $0.number != volume.number && $0.uuid == volume.uuid }) {
            return "another volume of the disk has the same one"
        }
        if let missing = VolumeChange.programs(of: change.method).first(where: { !survey.ownTools.contains($0) }) {
            return "this machine has no \(missing)"
        }
        if volume.kind == .luks, let boot = survey.volumes.first(where: { $0.number == survey.system?.bootPartition }),
            boot.inside?.partition == volume.number
        {
            // `cryptomount -u`, without hyphens, in its core image and in the ESP's grub.cfg.
            return "GRUB opens it by this identifier, to read its own files"
        }
        for program in survey.programs where program.volumes.contains(volume.number) {
            if program.isKernel { return "\(program.path) names it, and cannot be rewritten" }
            if let obstacle = obstacleToPrograms {
                return "\(program.path) names it, and is not made anew here: \(obstacle)"
            }
        }
        if isInInitramfs(volume) {
            if let kernel = survey.programs.first(where: \.isKernel) {
                return "\(kernel.path) holds an initramfs that may name it"
            }
            if hasInitramfs, let obstacle = obstacleToInitramfs {
                return "the initramfs may name it, and is not made anew here: \(obstacle)"
            }
        }
        if isEmbedded([change.change]), let obstacle = obstacleToGrubInstall {
            return "GRUB's core image names it, and is not made anew here: \(obstacle)"
        }
        return nil
    }

}

// MARK: initramfs, LVM, GRUB's core image

extension IdentityPlanner {
    private var hasInitramfs: Bool { survey.system?.kernels.contains { $0.initramfs != nil } == true }

    /// Why the system's programs cannot work on its disk here, as a sentence part.
    private var obstacleToPrograms: String? {
        survey.obstacleToTools ?? survey.obstacleToDisk ?? (survey.disk.kernelName == nil ? "the disk is a file" : nil)
    }

    private var obstacleToInitramfs: String? {
        if let obstacle = obstacleToPrograms { return obstacle }
        // A hook that does not find the name in crypttab leaves root's entry out, and says nothing.
        if let root = survey.volumes.first(where: { $0.number == survey.system?.rootPartition }), isUnnamed(root) {
            return "root is encrypted, and is opened by the name in its crypttab on the medium only"
        }
        return initramfsCommands.isEmpty ? "the system has none of update-initramfs, dracut and mkinitcpio" : nil
    }

    private func isUnnamed(_ volume: BootVolume) -> Bool {
        volume.inside?.containers.contains { container in
            if case .luks(_, _, let mapping) = container { mapping == nil } else { false }
        } == true
    }

    /// Whether an initramfs usually names a volume: LUKS is opened by its UUID and a hibernated system is looked for
    /// there; dracut also keeps the root, as it was when it ran.
    private func isInInitramfs(_ volume: BootVolume) -> Bool {
        if [.luks, .swap].contains(volume.kind) { return true }
        return survey.tools.contains("dracut") && !survey.tools.contains("update-initramfs")
            && volume.number == survey.system?.rootPartition
    }

    /// The commands of the system's generator that make all initramfs anew.
    private var initramfsCommands: [[String]] {
        if survey.tools.contains("update-initramfs") { return [["update-initramfs", "-u", "-k", "all"]] }
        if survey.tools.contains("dracut") {
            // Host-only, dracut would look at the machine that it runs on.
            return (survey.system?.kernels ?? []).compactMap { kernel in
                kernel.initramfs.map {
                    [
                        "dracut", "--force", "--no-hostonly", "--kver", String(kernel.name.dropFirst("vmlinuz-".count)),
                        "/boot/\($0)",
                    ]
                }
            }
        }
        // So would the hook that leaves out drivers.
        return survey.tools.contains("mkinitcpio") ? [["mkinitcpio", "-P", "-S", "autodetect"]] : []
    }

    private mutating func planInitramfs(for changes: [VolumeChange]) {
        let isNeeded = changes.contains { change in
            survey.volumes.first { $0.number == change.number }.map(isInInitramfs) == true
        }
        guard hasInitramfs, isNeeded || !draft.unfinished.isEmpty, obstacleToInitramfs == nil else { return }
        for command in initramfsCommands {
            add(
                .uuids, "run the installed system's `\(command.joined(separator: " "))`",
                .runTool(
                    ToolRun(command, success: .needed(consequence: "the initramfs may name identifiers that are gone")))
            )
        }
    }

    mutating func planGroups() {
        let inside = Set(
            survey.volumes.filter { $0.inside != nil }.compactMap { volume in
                volume.logicalVolume?.name.split(separator: "/").first.map(String.init)
            })
        for name in inside.sorted() {
            draft.pending.append("the group \(name) keeps its ids: it is inside of LUKS or of an array")
        }
        guard !survey.groups.isEmpty || !inside.isEmpty else {
            draft.alreadyRight.append("there is no group of LVM that lies on this disk alone")
            return
        }
        for (name, partitions) in survey.groups.sorted(by: { $0.key < $1.key }) {
            guard partitions.count == 1, let partition = partitions.first else {
                draft.pending.append("the group \(name) keeps its ids: it has several physical volumes")
                continue
            }
            if !survey.ownTools.contains("lvm") {
                draft.pending.append("the group \(name) keeps its ids: this machine has no lvm")
            } else if let obstacle = obstacle(toRenewing: name) {
                draft.pending.append("the group \(name) keeps its ids: \(obstacle)")
            } else {
                add(
                    .lvm, "give the group \(name) and its physical volume on partition \(partition) new ids",
                    .renewGroup(name: name, partition: partition))
            }
        }
    }

    /// GRUB finds a /boot in a group by the group's id, which its image holds.
    private func obstacle(toRenewing group: String) -> String? {
        guard bootsFromGroup else { return nil }
        if let program = survey.programs.first(where: \.namesGroup) { return "\(program.path) names it" }
        guard survey.hasBIOSGrub, let obstacle = obstacleToGrubInstall else { return nil }
        return "GRUB's core image names it, and is not made anew here: \(obstacle)"
    }

    private var bootsFromGroup: Bool {
        guard let system = survey.system else { return false }
        return survey.volumes.first { $0.number == system.bootPartition }?.logicalVolume != nil
    }

    /// Whether GRUB's core image for BIOS holds one of the old identifiers.
    private func isEmbedded(_ changes: [IdentifierChange]) -> Bool {
        survey.hasBIOSGrub
            && IdentityFiles.embedded.contains { path in
                survey.bytes(path).map { !IdentifierText.present(changes, in: $0).isEmpty } == true
            }
    }

    private var grubInstall: String? {
        ["grub-install", "grub2-install"].first { survey.tools.contains($0) }
    }

    private var obstacleToGrubInstall: String? {
        obstacleToPrograms ?? (grubInstall == nil ? "the system has no grub-install" : nil)
    }

    /// GRUB's core image holds identifiers of a /boot that it does not find by the number of its partition.
    mutating func planLoader() {
        let renewsGroup = draft.steps.contains { step in
            if case .renewGroup = step.verb { return true }
            return false
        }
        let changes = draft.volumeChanges.map(\.change) + draft.unfinished
        guard survey.hasBIOSGrub, renewsGroup && bootsFromGroup || isEmbedded(changes), let grubInstall,
            obstacleToGrubInstall == nil, let name = survey.disk.kernelName
        else { return }
        let command = [grubInstall, "--target=i386-pc", "/dev/\(name)"]
        add(
            renewsGroup ? .lvm : .uuids, "run the installed system's `\(command.joined(separator: " "))`",
            .runTool(ToolRun(command, success: .needed(consequence: "GRUB's core image names ids that are gone"))))
    }
}
