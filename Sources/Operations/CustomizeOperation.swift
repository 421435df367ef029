// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import Customization
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// Gives the system on a disk a new identity, and runs hooks in it.
package final class CustomizeOperation {
    private let job: CustomizeJob
    private let events: any EventSink
    private let cancellation: Cancellation

    /// - Parameter cancellation: ends the job before the first write.
    package init(_ job: CustomizeJob, events: any EventSink, cancellation: Cancellation) {
        self.job = job
        self.events = events
        self.cancellation = cancellation
    }

    /// Surveys the disk, plans, reports the plan, and executes it.
    package func run() throws -> CustomizeReport {
        try events.reporting(
            "customize", cancellation, outcome: { Outcome($0.pending.isEmpty || $0.dryRun ? .done : .incomplete) }
        ) { try customize() }
    }

    private func customize() throws -> CustomizeReport {
        let changes = try SystemChanges(newIdentity: job.newIdentity, hooks: job.hooks)
        guard !changes.isEmpty else {
            throw JobFailure(.usage, "there is nothing to do: give --new-identity, --hook, or both")
        }
        // A file is locked for writing; an exclusively opened device would keep its partitions from being mounted.
        let isLocked = try !job.dryRun && Files.status(FilePath(job.disk))?.isFile == true
        let opened = try OpenedDisk(job.disk, isLocked ? .exclusiveWrite : .readOnly, sectorSize: job.sectorSize)
        if !job.dryRun {
            try TargetGuard.refuseDanger(opened, image: nil, events, cancellation)
            try opened.claimTarget()
        }
        var options = BootRepairOptions(touchNVRAM: false)
        let keys = LUKSKeys(job.luksKeyFiles)
        _ = try keys.unlocker()
        options.luksKeyFiles = try keys.keyFiles()
        var report = CustomizeReport(dryRun: job.dryRun, disk: job.disk)
        report.plannedHooks = changes.hooks.map(\.name)
        if let request = changes.identity {
            let plan = Customization.plan(
                try Customization.survey(disk: opened.device, options: options), request)
            report.plan = plan
            if job.dryRun {
                (report.warnings, report.byHand, report.pending) = (plan.warnings, plan.byHand, plan.pending)
                return report
            }
            events.take(.planned(PlanText(plan.lines)))
            try cancellation.check()
            let outcome = try Customization.execute(plan, disk: opened.device, keys: options.luksKeyFiles) {
                events.log($0)
            }
            report.changed += outcome.changed
            report.warnings += outcome.warnings
            report.byHand += outcome.byHand
            report.pending += outcome.pending
            if plan.changesIdentifiers { try repairBoot(opened, options, &report) }
        }
        guard !job.dryRun, !changes.hooks.isEmpty else { return report }
        try cancellation.check()
        let results = try Customization.run(
            changes.hooks, on: opened.device, input: try JSONText.encode(report) + [10], options: options
        ) { events.log($0) }
        report.hooks = results
        report.pending += SystemChanges.problems(results, of: changes.hooks)
        return report
    }

    /// Loaders that hold identifiers are made anew. The firmware's entries name the partition, which keeps its GUID.
    private func repairBoot(
        _ opened: OpenedDisk, _ options: BootRepairOptions, _ report: inout CustomizeReport
    ) throws {
        let plan = BootRepair.plan(try BootRepair.survey(disk: opened.device, options: options), options: options)
        events.log(plan.description)
        let outcome = try BootRepair.execute(plan, disk: opened.device, keys: options.luksKeyFiles) { events.log($0) }
        report.changed += outcome.changed.map { "boot repair: \($0)" }
        report.warnings += outcome.warnings
        if let pending = outcome.pending { report.pending.append("boot repair: \(pending)") }
    }
}
