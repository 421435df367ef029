// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Emulator
import ImageFiles
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// Nothing on a new file can be lost, and `--salvage` accepts the losses of the image: they are listed, and lead to exit
/// status 65.
private struct NewFileConfirmer: Confirmer {
    func canAsk(whileStreaming: Bool) -> Bool { true }
    func answer(to question: Question) -> String? { "salvage" }
}

extension ExportOperation {
    /// Restores onto a new disk image of another length: a storage daemon shows it as a file of raw bytes.
    /// - Parameter exact: the source.
    func restore(
        _ exact: String, byteCount: UInt64, _ target: ExportTarget, _ output: ToolOutput, _ report: inout ExportReport
    ) throws {
        guard target.format != .raw else {
            try Files.resize(output.descriptor, output.path.string, to: byteCount)
            return try restore(exact, onto: output.path, &report)
        }
        try QemuImage.create(
            format: target.format.driver, path: output.path, byteCount: byteCount, options: target.options)
        let folder = try PrivateFolder()
        defer { withExtendedLifetime(folder) {} }
        // The restore names the real path.
        let disk = (Files.realPath(folder.path) ?? folder.path).appending("disk")
        _ = try OwnedDescriptor.open(
            disk, .writeOnly, options: [.create, .exclusiveCreate, .noFollow], permissions: [.ownerReadWrite])
        let daemon = try StorageDaemon(
            nodes: target.format.writableNodes(output.path), export: .fuse(mountPoint: disk, isWritable: true),
            cancellation: cancellation)
        do {
            try restore(exact, onto: disk, &report)
        } catch {
            let cause = daemon.failure
            try? daemon.stop()
            if let cause { throw EmulatorError.failed(program: QemuProgram.storageDaemon.rawValue, why: cause) }
            throw error
        }
        // The daemon writes what it holds; only then is the file complete.
        try daemon.stop()
    }

    private func restore(_ exact: String, onto disk: FilePath, _ report: inout ExportReport) throws {
        var restore = RestoreJob(image: exact, disk: disk.string)
        restore.layout = job.layout ?? (job.byteCount == nil ? "keep" : "grow")
        (restore.partitions, restore.scratch, restore.luksKeyFiles) = (job.partitions, job.scratch, job.luksKeyFiles)
        (restore.isConfirmed, restore.salvages, restore.repairsBoot) = (true, job.salvages, false)
        restore.allowsBacking = job.allowsBacking
        let part = PartEvents(events: events, hidden: disk.string, shown: job.output)
        let result: RestoreReport
        do {
            result = try RestoreOperation(
                restore, keys: keys, events: part, confirmer: NewFileConfirmer(), isPart: true
            ).run()
        } catch {
            let failure = JobFailure(error, cancellation: cancellation)
            let known = JobFailure(failure.status, part.renamed(failure.message))
            guard failure.status == .badImage, !job.salvages else { throw known }
            throw known.followed(
                by: "If the image is damaged, --salvage exports the rest, with zeros in place of what is lost")
        }
        report.warnings += result.warnings.map(part.renamed)
        report.incomplete = result.incomplete.map(part.renamed)
        report.lost = result.lost
        for finding in result.damage { events.log("damage: \(part.renamed(finding))") }
        for line in result.lossLines(job.output) { events.log(line) }
        var plan = result.plan.plan
        plan.target.path = job.output
        report.plan = RestorePlan.JSON(plan, warnings: result.plan.warnings.map(part.renamed))
    }
}
