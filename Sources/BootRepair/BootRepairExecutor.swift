// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import LinuxSystem
import SystemAccess
import SystemPackage

/// Executes the verbs of a plan, step by step, and records the results. It knows loaders only through the table.
struct BootRepairExecutor {
    let plan: BootRepairPlan
    let disk: BlockDevice
    private let keys: [FilePath]
    var outcome: BootRepairOutcome
    var pending: [String]
    /// The images whose old file is kept, by place and path.
    var keptImages: Set<String> = []

    /// - Parameter keys: the files with the keys of LUKS volumes.
    init(plan: BootRepairPlan, disk: BlockDevice, keys: [FilePath] = []) {
        self.keys = keys
        self.plan = plan
        self.disk = disk
        outcome = BootRepairOutcome()
        pending = plan.pendingReason.map { [$0] } ?? []
    }

    mutating func execute(_ log: (String) -> Void) throws(BootRepairError) -> BootRepairOutcome {
        guard !plan.steps.isEmpty else { return finished() }
        try checkDisk()
        var writes: [ReadySectors] = []
        do throws(SystemCallError) {
            let tree = try openTree()
            var preparedForPrograms = false
            for step in plan.steps {
                if step.verb.needsPrograms, !preparedForPrograms, let tree, let name = plan.disk.kernelName {
                    try tree.prepareForPrograms(plan.volumes, kernelName: name)
                    preparedForPrograms = true
                }
                log("\(step)")
                if let write = run(step, tree, log) { writes.append(write) }
            }
            try tree?.close()
        } catch { throw .system(error) }
        for write in writes { put(write) }
        for step in plan.steps {
            if case .patchBytes(let patches) = step.verb { patch(patches) }
        }
        verify()
        for step in plan.steps {
            if case .changeNVRAM(let change) = step.verb { changeFirmware(change, step) }
        }
        return finished()
    }

    private func finished() -> BootRepairOutcome {
        var outcome = self.outcome
        outcome.pending = pending.isEmpty ? nil : pending.joined(separator: ". ")
        return outcome
    }

    /// Checks, right before the first change, that the disk is still the surveyed one and not in use.
    private func checkDisk() throws(BootRepairError) {
        try BootSurveyor.refuseUse(of: VolumeNode.kernelName(of: disk))
        guard disk.byteCount > 0, disk.diskSequence == plan.disk.diskSequence else {
            throw .diskChanged("it was attached again since then")
        }
        let table: PartitionTable
        do { table = try PartitionTableReader.read(disk) } catch { throw .inputOutput(error) }
        guard table.diskGUID == plan.diskGUID, table.diskSignature == plan.diskSignature else {
            throw .diskChanged("its disk GUID or signature has changed")
        }
        for volume in plan.volumes {
            let number = volume.partitionNumber
            guard table.partitions.contains(where: { $0.number == number && $0.range == volume.range }) else {
                throw .diskChanged("partition \(number) has moved")
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
                tree = try SystemTree(
                    volume, subvolume: mount.subvolume, of: disk, readOnly: false, keys: keys)
            }
        }
        return tree
    }

    /// Executes the part of a step that works on the mounted system. Returns the sectors to be written once the system
    /// is unmounted.
    private mutating func run(_ step: BootRepairStep, _ tree: SystemTree?, _ log: (String) -> Void) -> ReadySectors? {
        do throws(SystemCallError) { return try run(step.verb, of: step, tree, log) } catch {
            pending.append("could not \(step): \(error)")
            return nil
        }
    }

    private mutating func run(
        _ verb: BootVerb, of step: BootRepairStep, _ tree: SystemTree?, _ log: (String) -> Void
    ) throws(SystemCallError) -> ReadySectors? {
        switch verb {
        case .runTool(let tool, let otherwise):
            let isDone = try run(tool, hasOtherwise: otherwise != nil, by: step.loader, tree, log)
            if !isDone, let otherwise { return try run(otherwise, of: step, tree, log) }
        case .editFile(let edit): try replaceWords(edit, tree)
        case .copyFile(let copies): try makeCopies(copies, tree)
        case .removeFile(let removal): try remove(removal, tree)
        case .writeFiles(let writes): try makeFiles(writes, tree)
        case .addLines(let addition): try addLines(addition, tree)
        case .writeSectors(let writes): return try ready(writes, tree)
        case .rebuildInitramfs(let rebuild): try rebuildInitramfs(rebuild, tree, log)
        case .patchBytes, .changeNVRAM: break
        }
        return nil
    }

    /// The folder in which paths of the plan are resolved.
    func anchored(_ place: TreePlace, _ tree: SystemTree?) throws(SystemCallError) -> AnchoredFolder {
        guard let tree else { throw SystemCallError("open", place.name, .noSuchFileOrDirectory) }
        switch place {
        case .system:
            // Without a system, the first mount is the EFI system partition.
            guard plan.systemName != nil else { throw SystemCallError("open", place.name, .noSuchFileOrDirectory) }
            return try tree.anchored()
        case .esp, .extendedBoot:
            let mount = plan.mounts.first { mount in
                plan.volumes.contains {
                    $0.number == mount.partition && (place == .esp ? $0.isESP : $0.isExtendedBoot)
                }
            }
            guard let mount else { throw SystemCallError("open", place.name, .noSuchFileOrDirectory) }
            return try AnchoredFolder(try tree.place(mount.path))
        }
    }

    /// Lets each loader with executed steps verify the disk.
    private mutating func verify() {
        for loader in BootLoaders.table.rows where plan.steps.contains(where: { $0.loader == loader.name }) {
            if let problem = loader.verify(disk, volumes: plan.volumes) { pending.append(problem) }
        }
    }
}
