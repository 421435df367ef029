// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import Filesystems
import LinuxSystem
import SystemAccess
import SystemPackage

/// Executes an identity plan: first the volumes, while nothing is mounted; then the system's files, and its programs. A
/// failed step does not prevent the others: the outcome lists it.
struct IdentityExecutor {
    let plan: IdentityPlan
    let disk: BlockDevice
    /// The files with the keys of LUKS volumes.
    let keys: [FilePath]
    let log: (String) -> Void
    var outcome = IdentityOutcome()
    /// The identifiers that did change.
    var changes: [IdentifierChange]
    /// Old and new id of physical volumes, as LVM writes them.
    var physicalVolumes: [(old: String, new: String)] = []

    init(_ plan: IdentityPlan, _ disk: BlockDevice, _ keys: [FilePath], _ log: @escaping (String) -> Void) {
        self.plan = plan
        self.disk = disk
        self.keys = keys
        self.log = log
        changes = plan.unfinished
        (outcome.warnings, outcome.byHand, outcome.pending) = (plan.warnings, plan.byHand, plan.pending)
    }

    mutating func execute() throws(BootRepairError) -> IdentityOutcome {
        guard !plan.steps.isEmpty || plan.hasRecord else { return outcome }
        try checkDisk()
        do throws(SystemCallError) {
            if !plan.volumeChanges.isEmpty { try writeRecord() }
            for step in plan.steps where step.verb.isOfVolumes {
                log("\(step.part.rawValue): \(step)")
                change(step)
            }
            if plan.steps.contains(where: \.verb.isOfVolumes) {
                // The disk's cache is not that of its partitions.
                do { try disk.dropCache() } catch { throw SystemCallError("read", disk.path.string, .ioError) }
                try verifyVolumes()
            }
            try changeTree()
            do { try disk.dropCache() } catch { throw SystemCallError("write", disk.path.string, .ioError) }
        } catch { throw .system(error) }
        return outcome
    }

    /// Checks, right before the first change, that the disk is still the surveyed one and not in use.
    private func checkDisk() throws(BootRepairError) {
        if let name = VolumeNode.kernelName(of: disk) {
            let uses = DiskDirectory().uses(of: name)
            if !uses.isEmpty { throw .inUse(uses.map(\.description)) }
        }
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

    /// The system's filesystems, mounted.
    func opened() throws(SystemCallError) -> SystemTree {
        var mounts = plan.mounts
        if let esp = plan.esp, mounts.mounts.allSatisfy({ $0.partition != esp }) { mounts.esp = nil }
        let (tree, problems) = try mounts.open(
            of: plan.volumes, disk: disk, readOnly: false, esp: plan.esp, keys: keys)
        if let problem = problems.first(where: { problem in
            !outcome.warnings.contains { $0.hasPrefix("\(problem.path) ") }
                && !outcome.pending.contains { $0.hasPrefix("\(problem.path) ") }
        }) {
            try tree.close()
            throw SystemCallError("mount", "\(problem.path) of the system (\(problem.reason))", .ioError)
        }
        return tree
    }

    /// Writes down what is about to change: a run after a power cut finds the references that still name it.
    private func writeRecord() throws(SystemCallError) {
        let tree = try opened()
        let pairs = plan.unfinished + plan.volumeChanges.map(\.change)
        do throws(SystemCallError) {
            try tree.anchored().write(Array(IdentityRecord.text(pairs).utf8), to: IdentityFiles.record)
        } catch {
            try? tree.close()
            throw error
        }
        try tree.close()
    }
}
