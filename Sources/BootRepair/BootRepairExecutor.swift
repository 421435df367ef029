// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import LinuxSystem
import SystemAccess
import SystemPackage

/// Does the verbs of a plan, step by step, and notes what came of them. It knows no loader but by the table.
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

    /// Right before anything is changed: is it still the disk that was surveyed, and does nothing use it?
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

    /// Does a step as far as that is done inside the system. Returns what is to be written to the disk once the system is
    /// unmounted.
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
        case .writeSectors(let writes): return try ready(writes, tree)
        case .changeNVRAM: break
        }
        return nil
    }

    /// A folder that paths of the plan are resolved in.
    func anchored(_ place: TreePlace, _ tree: SystemTree?) throws(SystemCallError) -> AnchoredFolder {
        guard let tree else { throw SystemCallError("open", place.name, .noSuchFileOrDirectory) }
        switch place {
        case .system:
            // Without a system the first mount is the EFI system partition's.
            guard plan.systemName != nil else { throw SystemCallError("open", place.name, .noSuchFileOrDirectory) }
            return try tree.anchored()
        case .esp:
            let mount = plan.mounts.first { mount in
                plan.volumes.contains { $0.number == mount.partition && $0.isESP }
            }
            guard let mount else { throw SystemCallError("open", place.name, .noSuchFileOrDirectory) }
            return try AnchoredFolder(try tree.place(mount.path))
        }
    }

    /// The loaders whose steps were done look at the disk once more.
    private mutating func verify() {
        for loader in BootLoaders.table.rows where plan.steps.contains(where: { $0.loader == loader.name }) {
            if let problem = loader.verify(disk, volumes: plan.volumes) { pending.append(problem) }
        }
    }
}
