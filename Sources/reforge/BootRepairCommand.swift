// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import BootRepair
import DiskModel
import JobModel
import LinuxSystem
import Operations
import SystemPackage

struct BootRepairCommand: MountingCommand {
    static let configuration = CommandConfiguration(
        commandName: "boot-repair", abstract: "Makes the system on a disk start on this machine (GRUB, BIOS and UEFI).",
        discussion: """
            Looks at how the disk boots, plans what is missing, shows that, and does it: with the installed system's own \
            tools where it has them. Those run confined: they reach this disk and nothing else of the machine. Running it \
            again changes nothing. Firmware boot entries are changed in the recovery environment only.

            Examples:

              reforge boot-repair /dev/sda --dry-run
              reforge boot-repair /dev/sda

            JSON fields: schema (1), dryRun, plan {steps, alreadyRight, warnings, pendingReason, …}, changed, warnings, pending.
            """)

    @Argument(help: "The disk: a block device or a raw image file.") var disk: String
    @Flag(help: "Print the plan and change nothing.") var dryRun = false
    @Flag(help: "Leave the firmware's boot entries alone.") var noNvram = false
    @Flag(help: "Print one JSON object.") var json = false
    @Option(help: "The logical sector size of a raw image file: 512 or 4096.") var sectorSize: SectorSize?

    private struct Report: Encodable {
        var schema = 1
        var dryRun: Bool
        var plan: BootRepairPlan
        var changed: [String]
        var warnings: [String]
        var pending: String?
    }

    func run() throws {
        try CommandRun.run(json: json) {
            // A file is locked for writing; a device must let its partitions be mounted.
            let isLocked = try !dryRun && Files.status(FilePath(disk))?.isFile == true
            let opened = try OpenedDisk(disk, isLocked ? .exclusiveWrite : .readOnly, sectorSize: sectorSize?.rawValue)
            if !dryRun {
                try TargetGuard.refuseDanger(opened, image: nil, Console.events)
                try opened.claimTarget()
            }
            let options = BootRepairOptions(touchNVRAM: !noNvram)
            let plan = BootRepair.plan(try BootRepair.survey(disk: opened.device, options: options), options: options)
            if !json { dryRun ? try Console.result(plan.description) : Console.message(plan.description) }
            if dryRun {
                if json {
                    try Console.json(
                        Report(
                            dryRun: true, plan: plan, changed: [], warnings: plan.warnings, pending: plan.pendingReason)
                    )
                }
                return .done
            }
            let outcome = try BootRepair.execute(plan, disk: opened.device) { Console.message($0) }
            if json {
                try Console.json(
                    Report(
                        dryRun: false, plan: plan, changed: outcome.changed, warnings: outcome.warnings,
                        pending: outcome.pending))
            } else {
                for warning in outcome.warnings { Console.message("warning: \(warning)") }
                for change in outcome.changed { try Console.result(change) }
                if let pending = outcome.pending { Console.message("not finished: \(pending)") }
                if outcome.changed.isEmpty, outcome.pending == nil {
                    try Console.result("nothing to do: \(disk) is right")
                }
            }
            return outcome.pending == nil ? .done : .incomplete
        }
    }
}
