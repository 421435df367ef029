// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import BootRepair
import JobModel
import Operations

struct BootRepairCommand: MountingCommand {
    static let configuration = CommandConfiguration(
        commandName: "boot-repair",
        abstract: "Makes the system on a disk start on this machine (GRUB, systemd-boot, kernel images, extlinux).",
        discussion: """
            Surveys how the disk boots, prints a plan of the missing steps, and performs them, with the installed \
            system's own tools where it has them. These tools run confined: they reach this disk and nothing else of \
            the machine. A second run changes nothing. Firmware boot entries are changed only in the recovery \
            environment. With --luks-key-file, a system inside of LUKS is repaired too; a RAID 1 is started with the \
            members on this disk, and stopped again.

            Examples:

              reforge boot-repair /dev/sda --dry-run
              reforge boot-repair /dev/sda
              reforge boot-repair /dev/sda --luks-key-file key

            JSON fields: schema (2), dryRun, plan {steps, alreadyRight, findings, pendingReason, …}, changed, \
            warnings, pending. A finding: code, stage, severity (stops, may-stop, note), sentence, evidence, \
            fix {steps | pending | reason}.
            """)

    @Argument(help: "The disk: a block device or a raw image file.") var disk: String
    @Flag(help: "Print the plan and change nothing.") var dryRun = false
    @Flag(help: "Leave the firmware's boot entries alone.") var noNvram = false
    @Flag(help: "Print one JSON object.") var json = false
    @Option(help: "The logical sector size of a raw image file: 512 or 4096.") var sectorSize: SectorSize?

    @OptionGroup var luks: LUKSOptions
    @OptionGroup var eventOptions: EventOptions

    func run() throws {
        var job = BootRepairJob(disk: disk)
        job.luksKeyFiles = luks.luksKeyFile
        (job.dryRun, job.changesNVRAM, job.sectorSize) = (dryRun, !noNvram, sectorSize?.rawValue)
        try BootRepairPresenter(job: job, json: json).run(
            eventOptions.sink("boot-repair", TerminalEvents(leavesPlans: json)))
    }
}

struct BootRepairPresenter {
    let job: BootRepairJob
    let json: Bool

    func run(_ events: any EventSink) throws {
        try CommandRun.run(json: json) { cancellation in
            let report = try BootRepairOperation(job, events: events, cancellation: cancellation).run()
            if json {
                try Console.json(report)
            } else if job.dryRun {
                try Console.result(report.plan.description)
            } else {
                for line in report.plan.findings.filter(\.isOpen).flatMap(\.lines) { Console.message(line) }
                for warning in report.warnings { Console.message("warning: \(warning)") }
                for change in report.changed { try Console.result(change) }
                if let pending = report.pending { Console.message("not finished: \(pending)") }
                if report.changed.isEmpty, report.pending == nil {
                    try Console.result("nothing to do: \(job.disk) is right")
                }
            }
            return job.dryRun || report.pending == nil ? .done : .incomplete
        }
    }
}
