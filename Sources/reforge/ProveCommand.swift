// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import JobModel
import Operations

struct ProveCommand: ParsableCommand {
    enum ConsoleKind: String, ExpressibleByArgument, CaseIterable { case serial }

    static let configuration = CommandConfiguration(
        commandName: "prove",
        abstract: "Boots an image or a snapshot in a virtual machine, and judges whether its system starts.",
        discussion: """
            The machine has no network and no display, and the image is only read. Proof is a sign that only a started \
            system gives, and that holds for some seconds: its guest agent answers, a login prompt on a serial line or \
            on the screen, or the text of --expect. A prompt of GRUB or of an initramfs, emergency mode, a kernel panic, \
            a blue screen, a restart or the lack of anything to boot from take it back.

            Verdicts: proven (exit code 0); started, if the screen stands still and nothing says what it shows (70); \
            not-proven, with the reason (70). Exit code 65 if the image is damaged.

            The signed verdict is stored with the snapshot (`reforge snapshots` shows it) or beside the image file \
            (IMAGE.proof.json), with the screen and the serial log; for a disk or a kept overlay nowhere. Where it \
            cannot be stored, a warning says so, and the exit code is that of the verdict.

            --output keeps verdict.json (signed), screen.png and serial.log. --console serial asks the system for a login on \
            the serial line (systemd 254 or newer), for this start only.

            Examples:

              reforge prove /mnt/backup/repo@latest
              reforge prove server.img.zst --expect "nginx: ready" --timeout 600 --output proof

            JSON fields: schema (1), image, imageID, verdict, sign, reason, message, firmware, disk, accelerator, \
            memoryByteCount, qemuVersion, started, seconds, screenText, stored {proof, files, problems}.
            """)

    @Argument(help: "An image, a snapshot, a disk, or a kept overlay.") var image: String
    @Option(help: ArgumentHelp("The text, on the screen or a serial line, that is the proof.", valueName: "text"))
    var expect: String?
    @Option(
        help: ArgumentHelp(
            "The time limit (default: 300 with KVM, 1200 without).", valueName: "seconds"))
    var timeout: Double?
    @OptionGroup var machine: MachineArguments
    @Option(help: "Ask the system for a login on the serial line.") var console: ConsoleKind?
    @Option(help: ArgumentHelp("A folder for the verdict, the screen and the serial log.", valueName: "dir"))
    var output: String?
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var backingOptions: BackingOptions
    @OptionGroup var eventOptions: EventOptions

    func validate() throws {
        if let timeout, !(timeout >= 10 && timeout <= 86_400) {
            throw ValidationError("--timeout takes 10 to 86400 seconds")
        }
        if expect?.isEmpty ?? false { throw ValidationError("--expect takes a text") }
    }

    func run() throws {
        var job = ProveJob(image: image)
        (job.machine, job.expectedText, job.timeoutSeconds) = (machine.options, expect, timeout)
        (job.asksForSerialLogin, job.output) = (console == .serial, output)
        job.allowsBacking = backingOptions.allowBacking
        let events = eventOptions.sink("prove")
        try CommandRun.run(json: json) { cancellation in
            let report = try ProveOperation(
                job, keys: KeyRing(keyOptions, events, cancellation), events: events, toolVersion: ProgramVersion.text
            ).run()
            try Console.result(report, json: json, lines: report.lines)
            return report.outcome.status
        }
    }
}
