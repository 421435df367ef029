// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Emulator
import JobModel
import Operations

struct VirtualMachineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vm",
        abstract: "Boots an image or a snapshot in a virtual machine, at once and without a restore.",
        discussion: """
            The image is only read, as the machine needs it. What the guest writes goes into an overlay in the folder \
            for temporary files ($TMPDIR), which is dropped at the end; --keep keeps it as a file, with its \
            OVERLAY.reforge.json. A kept overlay is booted again with `reforge vm OVERLAY`, and captured as an \
            increment with `reforge capture OVERLAY REPO@`; both need the image.

            The guest has no network without --network user. Its display is a window where there is a desktop, else \
            VNC on a Unix socket; `vnc:N` listens on port 5900+N of the loopback address. Ctrl-C presses the power \
            button, and ends the machine when pressed again. Root is not needed; KVM is used where /dev/kvm can be opened.

            Examples:

              reforge vm /mnt/backup/repo@laptop/latest
              reforge vm server.img.zst --memory 4G --network user
              reforge vm repo@latest --keep trial.qcow2
              reforge capture trial.qcow2 repo@

            JSON fields: schema (1), image, imageID, overlay, firmware, disk, seconds, isDamaged. Exit code 65 if parts \
            of the image could not be read, 74 if the overlay found no room.
            """)

    @Argument(help: "An image, a snapshot, a disk, or a kept overlay.") var image: String
    @OptionGroup var machine: MachineArguments
    @Option(help: "The guest's network: user is QEMU's NAT to the network of this machine.")
    var network = MachineSettings.Network.none
    @Option(help: ArgumentHelp("Keep what the guest writes in this new file.", valueName: "overlay"))
    var keep: String?
    @Option(help: ArgumentHelp("none, gtk, vnc or vnc:N.", valueName: "display")) var display: String?
    @Flag(help: "Print one JSON object at the end.") var json = false
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var backingOptions: BackingOptions
    @OptionGroup var eventOptions: EventOptions

    func validate() throws {
        guard let display, !["none", "gtk", "vnc"].contains(display) else { return }
        guard display.hasPrefix("vnc:"), let number = Int(display.dropFirst(4)), (0...9999).contains(number) else {
            throw ValidationError("--display takes none, gtk, vnc or vnc:N with a number up to 9999")
        }
    }

    func run() throws {
        var job = VirtualMachineJob(image: image)
        (job.machine, job.network, job.display, job.keep) = (machine.options, network.rawValue, display, keep)
        job.allowsBacking = backingOptions.allowBacking
        let events = eventOptions.sink("vm")
        try CommandRun.run(json: json) { cancellation in
            let report = try VirtualMachineOperation(
                job, keys: KeyRing(keyOptions, events, cancellation), events: events
            ).run()
            try Console.result(report, json: json, lines: ["the machine has ended"])
            return report.outcome.status
        }
    }
}
