// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import DiskModel
import JobModel

struct ExportCommand: MountingCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Makes a disk image for a virtual machine from an image, a snapshot or a disk.",
        discussion: """
            The disk is copied byte for byte, without a raw file in between; unused space stays unallocated. With \
            --size, --layout or --partition it is laid out again, as `reforge restore` does it.
            The output appears under its name when it is complete; after a failure there is none.

            --for chooses the format that the hypervisor starts from, and makes the system start from its usual disk \
            controllers: what `reforge doctor` finds for such a machine is repaired inside of the new file, in the \
            appliance (see `reforge files`). The image is only read. What cannot be repaired is a finding, and leads to \
            exit code 70.

            Examples:

              reforge export laptop.img.zst laptop.qcow2
              reforge export repo@web1/latest web1.vmdk
              reforge export repo@web1/latest web1.qcow2 --for kvm
              reforge export laptop.img.zst laptop.vhdx --size 120G
              reforge export laptop.img.zst small.qcow2 --size 20G --partition 3=rest
              reforge export /dev/sdb sdb.vdi

            Needs qemu-img, and with --size, --layout or --partition qemu-storage-daemon and FUSE (Debian packages \
            qemu-utils, qemu-system-common, fuse3).

            JSON fields: schema (1), image, imageID, output, format, byteCount, fileByteCount, storedByteCount, start \
            {firmware (uefi, bios, either, unknown), command, advice}, plan (as of restore), warnings, incomplete, lost, \
            unreadable, seconds, dryRun, machine, findings (as of doctor: those that are left), changed.
            """)

    @Argument(help: "An image, a snapshot (REPO@latest, REPO@HOST/latest, REPO@ID, REPO@TIME), or a disk.")
    var image: String
    @Argument(help: "The file to make: .qcow2, .vmdk, .vhdx, .vhd, .vdi, or .img or .raw for raw.") var out: String
    @Option(help: "The format, if the name does not say it: qcow2, vmdk, vhdx, vhd, vdi or raw.") var format: String?
    @Option(
        name: .customLong("for"),
        help: ArgumentHelp(
            "Make the system start on machines of vmware, hyperv, kvm or virtualbox.", valueName: "hypervisor"))
    var hypervisor: String?
    @Option(help: "The size of the new disk (default: that of the captured disk).") var size: ByteSize?
    @Option(
        help: """
            keep: sizes as captured. grow: the last partition that can grow takes the space that --size adds. \
            proportional: all that can grow share it. (default: grow with --size)
            """
    ) var layout: LayoutPolicy?
    @Option(
        help: ArgumentHelp(
            "The size of partition N: a size, keep, rest (the space that the others leave after it) or drop (left out). May be repeated.",
            valueName: "N=SIZE"))
    var partition: [String] = []
    @Option(
        help: """
            A folder for data that does not fit while filesystems shrink, and for a decompressed raw image \
            (default: beside the image; for an encrypted image: memory).
            """
    ) var scratch: String?
    @Flag(help: "Replace an existing disk image of the same format, or an empty file. Any other file stays.")
    var overwrite = false
    @Flag(
        help:
            "Export the intact data of a damaged or incomplete image; the rest becomes zeros, and is listed. Exit code 65 if anything is lost."
    )
    var salvage = false
    @Flag(name: .customLong("dry-run"), help: "Write nothing: show what would be made, and with --for the findings.")
    var isDryRun = false
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var backingOptions: BackingOptions
    @OptionGroup var eventOptions: EventOptions
    @OptionGroup var appliance: ApplianceOptions

    func validate() throws {
        if let why = job.contradiction { throw ValidationError(why) }
        do { _ = try LayoutRequest(policy: layout ?? .keep, parsing: partition) } catch {
            throw ValidationError("--partition: \(error)")
        }
    }

    private var job: ExportJob {
        var job = ExportJob(image: image, output: out)
        (job.format, job.byteCount, job.layout) = (format, size?.byteCount, layout?.rawValue)
        (job.partitions, job.scratch) = (partition, scratch)
        (job.overwrites, job.salvages, job.luksKeyFiles) = (overwrite, salvage, appliance.luks.luksKeyFile)
        job.allowsBacking = backingOptions.allowBacking
        (job.hypervisor, job.media, job.allowsKVM) = (hypervisor, appliance.media, !appliance.noKvm)
        job.isDryRun = isDryRun
        return job
    }

    func run() throws {
        try ExportPresenter(job: job, json: json).run(keyOptions, eventOptions.sink("export"))
    }
}
