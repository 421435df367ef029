// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Customization
import JobModel
import Operations

struct CustomizeCommand: MountingCommand {
    static let configuration = CommandConfiguration(
        commandName: "customize",
        abstract: "Gives the system on a restored disk a new identity, and runs programs in it.",
        discussion: """
            For a copy of a machine that runs beside the original: a new host name, machine id, SSH host keys, random \
            seeds and network names; with uuids and lvm also new identifiers of its volumes, and every reference to \
            them. Never use it for a machine that replaces the captured one. What cannot be renewed on a stopped system \
            (Windows' SID, Puppet, tailscale, ...) is listed.

            Prints a plan, and executes it without asking. Exit code 70 if anything that was asked for is not done, or \
            a hook failed.

            Examples:

              reforge customize /dev/sda --new-identity=standard,hostname:web2 --dry-run
              reforge customize /dev/sda --new-identity=standard,hostname:web2,uuids
              reforge customize /dev/sda --hook join-domain.sh
              reforge customize /dev/sda --new-identity --luks-key-file key

            JSON fields: schema (1), dryRun, disk, plan {disk, systemName, steps [{part, description, paths, command, \
            partition, from, to}], alreadyRight, warnings, byHand, pending}, changed, warnings, byHand, pending, plannedHooks, \
            hooks [{name, ending, exitStatus, output, seconds}].
            """)

    @Argument(help: "The disk: a block device or a raw image file.") var disk: String
    @OptionGroup var identityOptions: IdentityOptions
    @Flag(help: "Print the plan and change nothing.") var dryRun = false
    @Flag(help: "Print one JSON object.") var json = false
    @Option(help: "The logical sector size of a raw image file: 512 or 4096.") var sectorSize: SectorSize?
    @OptionGroup var luks: LUKSOptions
    @OptionGroup var eventOptions: EventOptions

    func validate() throws {
        guard identityOptions.newIdentity != nil || !identityOptions.hook.isEmpty else {
            throw ValidationError("there is nothing to do: give --new-identity, --hook, or both")
        }
    }

    func run() throws {
        var job = CustomizeJob(disk: disk)
        (job.newIdentity, job.hooks) = (identityOptions.newIdentity, identityOptions.hook)
        job.luksKeyFiles = luks.luksKeyFile
        (job.dryRun, job.sectorSize) = (dryRun, sectorSize?.rawValue)
        try CustomizePresenter(job: job, json: json).run(
            eventOptions.sink("customize", TerminalEvents(leavesPlans: json)))
    }
}

struct CustomizePresenter {
    let job: CustomizeJob
    let json: Bool

    func run(_ events: any EventSink) throws {
        try CommandRun.run(json: json) { cancellation in
            let report = try CustomizeOperation(job, events: events, cancellation: cancellation).run()
            if json {
                try Console.json(report)
            } else if job.dryRun {
                for line in report.rehearsal { try Console.result(line) }
            } else {
                for warning in report.warnings { Console.message("warning: \(warning)") }
                for sentence in report.byHand { Console.message("in the started system: \(sentence)") }
                for problem in report.pending { Console.message("not finished: \(problem)") }
                for change in report.changed { try Console.result(change) }
                for hook in report.hooks { try Console.result("hook \(hook.name): \(hook.ending)") }
                if report.changed.isEmpty, report.pending.isEmpty, report.hooks.isEmpty {
                    try Console.result("nothing to do: \(job.disk) is right")
                }
            }
            return job.dryRun || report.pending.isEmpty ? .done : .incomplete
        }
    }
}
