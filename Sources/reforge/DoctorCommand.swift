// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import BootRepair
import JobModel
import Operations

struct DoctorCommand: MountingCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Says why a disk, an image or a snapshot will not start, and the fix.",
        discussion: """
            Follows the start from the firmware to fstab. A disk of this machine is read directly, as root, and must \
            not be in use; an image, a snapshot or a disk in a file in the appliance (see `reforge files`). Nothing is \
            written. `reforge boot-repair` does what a finding names as its fix.

            Without --for, a block device is judged for this machine, and everything else for any machine.

            Examples:

              reforge doctor /dev/sda
              reforge doctor laptop.img.zst --for this
              reforge machine > spare.json && reforge doctor repo@latest --for spare.json

            Exit codes: 0 if nothing that was found stops the start, 70 if something does; docs/boot.md lists every \
            code of a finding.

            JSON fields: schema (1), subject, machine (none: any), firmware, system, stops, alreadyRight, findings \
            [{code, stage, severity (stops, may-stop, note), sentence, evidence {partition, file, line, offset}, \
            fix {steps | pending | reason}}].
            """)

    @Argument(help: "A block device, a disk in a file, an image, or a snapshot.") var disk: String
    @Option(
        name: .customLong("for"),
        help: ArgumentHelp(
            "The machine it is for: this, or a file that `reforge machine` wrote.", valueName: "this|file"))
    var machine: String?
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var appliance: ApplianceOptions
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var backing: BackingOptions
    @OptionGroup var eventOptions: EventOptions

    func run() throws {
        var job = DoctorJob(disk: disk)
        job.machine = machine.map { $0 == "this" ? .this : .record($0) }
        (job.appliance, job.allowsBacking) = (appliance.choice, backing.allowBacking)
        let sink = eventOptions.sink("doctor")
        try CommandRun.run(json: json) { cancellation in
            let keys = KeyRing(keyOptions, sink, cancellation)
            let report = try DoctorOperation(job, keys: keys, events: sink).run()
            try Console.result(report, json: json, lines: report.lines)
            return report.stops ? .incomplete : .done
        }
    }
}
