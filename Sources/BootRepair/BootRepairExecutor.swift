// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import LinuxSystem
import SystemPackage

/// Does what a plan says, step by step, and notes what came of it.
struct BootRepairExecutor {
    let plan: BootRepairPlan
    let disk: BlockDevice
    var outcome: BootRepairOutcome
    var pending: [String]

    init(plan: BootRepairPlan, disk: BlockDevice) {
        self.plan = plan
        self.disk = disk
        outcome = BootRepairOutcome(warnings: plan.warnings)
        pending = plan.pendingReason.map { [$0] } ?? []
    }

    mutating func execute(_ log: (String) -> Void) throws(BootRepairError) -> BootRepairOutcome {
        guard !plan.steps.isEmpty else { return finished() }
        try checkDisk()
        var writes: [ReadyBIOSBoot] = []
        do throws(SystemCallError) {
            let tree = try openTree()
            var preparedForPrograms = false
            for step in plan.steps {
                if step.needsPrograms, !preparedForPrograms, let tree, let name = plan.disk.kernelName {
                    try tree.prepareForPrograms(plan.volumes, kernelName: name)
                    preparedForPrograms = true
                }
                log("\(step)")
                if let write = run(step, tree, log) { writes.append(write) }
            }
            try tree?.close()
        } catch { throw .system(error) }
        for write in writes { put(write, log) }
        checkBIOS()
        for step in plan.steps { runInFirmware(step, log) }
        return finished()
    }

    private func finished() -> BootRepairOutcome {
        var outcome = self.outcome
        outcome.pending = pending.isEmpty ? nil : pending.joined(separator: ". ")
        return outcome
    }

    /// Right before anything is changed: is it still the disk that was surveyed, and does nobody use it?
    private func checkDisk() throws(BootRepairError) {
        try BootSurveyor.refuseUse(of: VolumeNode.kernelName(of: disk))
        guard disk.byteCount > 0, disk.diskSequence == plan.disk.diskSequence else {
            throw .diskChanged("it was attached anew since")
        }
        let table: PartitionTable
        do { table = try PartitionTableReader.read(disk) } catch { throw .inputOutput(error) }
        guard table.diskGUID == plan.diskGUID, table.diskSignature == plan.diskSignature else {
            throw .diskChanged("its disk GUID or signature is another")
        }
        for volume in plan.volumes {
            let number = volume.logicalVolume?.partition ?? volume.number
            guard table.partitions.contains(where: { $0.number == number && $0.range == volume.range }) else {
                throw .diskChanged("partition \(number) lies elsewhere")
            }
        }
    }

    private func openTree() throws(SystemCallError) -> SystemTree? {
        var tree: SystemTree?
        for mount in plan.mounts {
            guard let volume = plan.volumes.first(where: { $0.number == mount.partition }) else { continue }
            if let tree {
                try tree.mount(volume, subvolume: mount.subvolume, at: mount.path)
            } else {
                tree = try SystemTree(volume, subvolume: mount.subvolume, of: disk, readOnly: false)
            }
        }
        return tree
    }

    /// Runs a step inside the system. Returns what is to be written to the disk once the system is unmounted.
    private mutating func run(_ step: BootRepairStep, _ tree: SystemTree?, _ log: (String) -> Void) -> ReadyBIOSBoot? {
        do throws(SystemCallError) {
            switch step {
            case .fixFstab(let changes):
                if let tree { try fixFstab(changes, tree) }
            case .runGrubInstall(let platform, let command, let again, let otherwise):
                guard let tree else { return nil }
                let output = try tree.run(command)
                for line in (output.text + output.errorText).split(separator: "\n") { log("  \(line)") }
                if output.succeeded {
                    outcome.changed.append("ran \(command.joined(separator: " "))")
                    return nil
                }
                let sentence = "`\(command.joined(separator: " "))` failed (\(output.ending)): \(output.lastWords)"
                if let otherwise {
                    outcome.warnings.append(sentence)
                    return try ready(otherwise, tree)
                }
                if again {
                    outcome.warnings.append("\(sentence). The loader that was there, which was in order, is still used")
                } else {
                    pending.append("GRUB for \(platform) is not installed: \(sentence)")
                }
            case .updateGrub(let command):
                if let tree { try updateGrub(command, tree, log) }
            case .makeFallback(let from, let loader, _):
                if let tree { try makeFallback(from: from, loader: loader, tree) }
            case .writeBIOSBoot(let write): return try ready(write, tree)
            case .addNVRAMEntry, .orderNVRAMEntry, .removeNVRAMEntry: break
            }
        } catch {
            pending.append("could not \(step): \(error)")
        }
        return nil
    }

    private mutating func fixFstab(_ changes: [FstabChange], _ tree: SystemTree) throws(SystemCallError) {
        let anchor = try tree.anchored()
        let old = String(decoding: try anchor.read("/etc/fstab"), as: UTF8.self)
        let new = Fstab(old).replacing(changes)
        guard new != old else { return }
        try anchor.write(Array(new.utf8), to: "/etc/fstab")
        outcome.changed.append("rewrote /etc/fstab (\(changes.map(\.description).joined(separator: "; ")))")
    }

    private mutating func updateGrub(
        _ command: [String], _ tree: SystemTree, _ log: (String) -> Void
    ) throws(SystemCallError) {
        let path = "\(plan.grubFolder)/grub.cfg"
        let anchor = try tree.anchored()
        let root = plan.mounts.first?.partition ?? 0
        func problems(_ bytes: [UInt8]?) -> [String] {
            guard let bytes else { return ["there is none"] }
            return GrubConfiguration(String(decoding: bytes, as: UTF8.self))
                .problems(volumes: plan.volumes, rootPartition: root)
        }
        func others(_ bytes: [UInt8]?) -> [GrubConfiguration.OtherSystem] {
            GrubConfiguration(String(decoding: bytes ?? [], as: UTF8.self))
                .otherSystems(volumes: plan.volumes, rootPartition: root)
        }
        let old = try? anchor.read(path)
        let output = try tree.run(command)
        for line in (output.text + output.errorText).split(separator: "\n") { log("  \(line)") }
        let new = try? anchor.read(path)
        let newProblems = problems(new)
        if output.succeeded, newProblems.isEmpty {
            // os-prober cannot look at other disks from where it runs.
            let kept = Set(others(new).map(\.place))
            let lost = others(old).filter { !kept.contains($0.place) }.map { "\"\($0.title)\"" }.joined(separator: ", ")
            if !lost.isEmpty, let old, problems(old).isEmpty {
                try anchor.write(old, to: path)
                outcome.warnings.append(
                    "the \(path) that `\(command.joined(separator: " "))` wrote lacks entries of other systems (\(lost)): "
                        + "the one that was there is kept")
                return
            }
            if !lost.isEmpty {
                outcome.warnings.append(
                    "the new \(path) lacks entries of the old one (\(lost)), which did not start this system. If they "
                        + "are other systems, run `\(command.joined(separator: " "))` in the started system to find them again"
                )
            }
            if new != old { outcome.changed.append("wrote \(path) anew") }
            return
        }
        let sentence =
            output.succeeded
            ? "the \(path) that `\(command.joined(separator: " "))` wrote is not right (\(newProblems.joined(separator: "; ")))"
            : "`\(command.joined(separator: " "))` failed (\(output.ending)): \(output.lastWords)"
        let oldIsRight = problems(old).isEmpty
        if new != old, let old, oldIsRight || !output.succeeded {
            try anchor.write(old, to: path)
        }
        if oldIsRight {
            outcome.warnings.append("\(sentence); the one that was there is kept: it finds this system's root")
        } else {
            pending.append("\(sentence); the system may not start")
        }
    }

    /// Copies a loader, and what it starts or needs beside it.
    private mutating func makeFallback(from: String, loader: String, _ tree: SystemTree) throws(SystemCallError) {
        let mount = plan.mounts.first { mount in plan.volumes.contains { $0.number == mount.partition && $0.isESP } }
        guard let mount else { return }
        let esp = try AnchoredFolder(try tree.place(mount.path))
        let folder = from.split(separator: "\\").joined(separator: "/")
        var copies = [(from: loader, to: "BOOTX64.EFI")]
        if loader.lowercased() == "shimx64.efi" {
            // shim starts grubx64.efi from its own folder, and the MOK manager where keys are to be enrolled.
            copies += [(from: "grubx64.efi", to: "grubx64.efi"), (from: "mmx64.efi", to: "mmx64.efi")]
        }
        // A GRUB whose prefix is the folder that it was started from finds its configuration there.
        copies.append((from: "grub.cfg", to: "grub.cfg"))
        var files: [(to: String, bytes: [UInt8])] = []
        for copy in copies where copy.from == loader || esp.exists("\(folder)/\(copy.from)") {
            files.append((copy.to, try esp.read("\(folder)/\(copy.from)", limit: 64 << 20)))
        }
        let needed = files.reduce(0 as UInt64) { $0 + UInt64($1.bytes.count) + 65536 }
        guard let free = Files.freeByteCount(esp.path), free >= needed else {
            throw SystemCallError("write the fallback loader to", "the EFI system partition", .noSpace)
        }
        try esp.makeFolders("EFI/BOOT")
        var isChanged = false
        for file in files where (try? esp.read("EFI/BOOT/\(file.to)", limit: 64 << 20)) != file.bytes {
            try esp.write(file.bytes, to: "EFI/BOOT/\(file.to)")
            isChanged = true
        }
        if isChanged { outcome.changed.append("made \(ESPSurvey.fallbackPath) from \(from)\\\(loader)") }
    }
}

extension BootRepairStep {
    /// Whether programs of the installed system run in it.
    var needsPrograms: Bool {
        switch self {
        case .runGrubInstall, .updateGrub: true
        default: false
        }
    }
}
