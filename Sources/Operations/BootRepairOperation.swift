// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Repository
import SystemPackage

/// The result of a boot repair, or of its dry run.
package struct BootRepairReport: Encodable {
    package let schema = 2
    package var dryRun: Bool
    /// Its findings are those before the steps.
    package var plan: BootRepairPlan
    package var changed: [String]
    /// What did not go as planned and leaves nothing to do.
    package var warnings: [String]
    package var pending: String?
}

/// Makes the system on a disk boot on this machine.
package final class BootRepairOperation {
    private let job: BootRepairJob
    private let events: any EventSink
    private let cancellation: Cancellation

    /// - Parameter cancellation: ends the job before the first write.
    package init(_ job: BootRepairJob, events: any EventSink, cancellation: Cancellation) {
        self.job = job
        self.events = events
        self.cancellation = cancellation
    }

    /// Surveys the disk, plans, reports the plan, and executes it.
    package func run() throws -> BootRepairReport {
        try events.reporting(
            "boot-repair", cancellation, outcome: { Outcome($0.pending == nil || $0.dryRun ? .done : .incomplete) }
        ) { try repair() }
    }

    private func repair() throws -> BootRepairReport {
        // A file is locked for writing; an exclusively opened device would keep its partitions from being mounted.
        let isLocked = try !job.dryRun && Files.status(FilePath(job.disk))?.isFile == true
        let opened = try OpenedDisk(job.disk, isLocked ? .exclusiveWrite : .readOnly, sectorSize: job.sectorSize)
        if !job.dryRun {
            try TargetGuard.refuseDanger(opened, image: nil, events, cancellation)
            try opened.claimTarget()
        }
        var options = BootRepairOptions.here(touchNVRAM: job.changesNVRAM)
        let keys = LUKSKeys(job.luksKeyFiles)
        _ = try keys.unlocker()
        options.luksKeyFiles = try keys.keyFiles()
        let survey = try BootRepair.survey(disk: opened.device, options: options)
        let plan = BootRepair.plan(survey, options: options)
        let kept = KeptFindings(DoctorReport(survey, options: options, subject: job.disk), disk: job.disk)
        if job.dryRun {
            return BootRepairReport(
                dryRun: true, plan: plan, changed: [], warnings: [], pending: plan.pendingReason)
        }
        events.take(.planned(PlanText([plan.description])))
        let outcome = try BootRepair.execute(plan, disk: opened.device, keys: options.luksKeyFiles) { events.log($0) }
        kept.add(outcome)
        return BootRepairReport(
            dryRun: false, plan: plan, changed: outcome.changed, warnings: outcome.warnings, pending: outcome.pending)
    }
}
