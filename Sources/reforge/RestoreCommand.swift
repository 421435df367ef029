// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import DiskModel
import JobModel

struct RestoreCommand: MountingCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Restores an image, a snapshot or another disk onto a disk. Everything on that disk is lost.",
        discussion: """
            Prints the plan, and asks for the serial number or name of the target before the first write.
            The target does not boot until the last step; the same command continues an interrupted restore.

            Examples:

              reforge restore laptop.img.zst /dev/nvme0n1 --dry-run
              reforge restore laptop.img.zst /dev/nvme0n1
              reforge restore laptop.img.zst /dev/nvme0n1 --layout keep --yes --verify
              reforge restore laptop.img.zst /dev/nvme0n1 --partition 3=40GiB --partition 4=rest --partition 5=drop
              reforge restore laptop.img.zst /dev/nvme0n1 --only 3
              reforge restore /mnt/backup/repo@web1/latest /dev/nvme0n1
              reforge restore /mnt/backup/repo@2026-11-01 /dev/sda --delta
              reforge restore damaged.img.zst /dev/nvme0n1 --salvage
              ssh store cat laptop.img.zst | reforge restore - /dev/nvme0n1 --yes
              reforge restore laptop.img.zst /dev/nvme0n1 --firmware uefi
              reforge restore /dev/sda /dev/sdb
              reforge restore lab.img.zst /dev/sda --new-identity=standard,hostname:lab-7 --hook register.sh
              truncate -s 64G disk.raw && reforge restore laptop.img.zst disk.raw --yes

            JSON fields: schema (1), dryRun, image, imageID, plan {imageUUID, target, geometry, request {policy, \
            wishes}, items [{number, name, type, filesystem, label, from, to, usedByteCount, action, volumes [{name, \
            filesystem, fromByteCount, toByteCount}]}], regionTargets, placements, only, tableIsUnchanged, growths, \
            shrinks, remakes, conversion, warnings}, diskState (untouched, partial, complete, salvaged), writtenByteCount, \
            resumedFrom, bootRepair {findings, changed, pending}, findings (known before), identity {plan, changed, \
            byHand, pending}, hooks [{name, ending, exitStatus, output, seconds}], warnings, incomplete, damage, lost [{partition, captured, \
            target}], lostFiles [{partition, files, moreFiles, notes}], source (the disk that was cloned: path, kernelName, model, \
            serial, wwn, transport), advice, seconds.
            """)

    @Argument(
        help: ArgumentHelp(
            "An image, a snapshot (REPO@latest, REPO@HOST/latest, REPO@ID, REPO@TIME), - for standard input, or the block device of a disk to clone."
        ))
    var image: String
    @Argument(help: "The target: a block device, or a raw image file whose length is the disk's size.") var disk: String
    @Option(
        help:
            "keep: sizes as captured. grow: the last partition that can grow takes the space that the target adds. proportional: all that can grow share it."
    )
    var layout = LayoutPolicy.grow
    @Option(
        help: ArgumentHelp(
            "The size of partition N of the image: a size, keep, rest (the space that the others leave after it) or drop (left out). May be repeated.",
            valueName: "N=SIZE"))
    var partition: [String] = []
    @Option(
        help: ArgumentHelp(
            "Restore only this partition of the image, into the target's partition of the same number. The rest of the target stays as it is.",
            valueName: "N"))
    var only: Int?
    @Option(help: ArgumentHelp("With --only: restore into this partition of the target.", valueName: "N")) var into:
        Int?
    @Option(
        help: """
            A folder for data that does not fit while filesystems shrink, and for a decompressed raw image \
            (default: beside the image; for an encrypted image: memory).
            """
    ) var scratch: String?
    @Flag(help: "Print the plan and write nothing.") var dryRun = false
    @Flag(help: "Do not ask for confirmation.") var yes = false
    @Flag(help: "Read everything back from the medium and compare, before filesystems are resized.") var verify = false
    @Flag(help: "Read and check the whole image before the first write.") var verifyFirst = false
    @Flag(
        help:
            "Restore the intact data of a damaged image; lost ranges become zeros, and are listed. Exit code 65 if anything is lost."
    )
    var salvage = false
    @Option(
        help: ArgumentHelp(
            "With --salvage and without a terminal: accept exactly the losses that a run without this option names by this code.",
            valueName: "CODE"))
    var confirmSalvage: String?
    @Flag(
        help:
            "Clone a disk past its unreadable sectors: retry, read around them, fill with zeros, and list the losses. Exit code 74 if anything is lost."
    )
    var rescue = false
    @Option(
        help: ArgumentHelp(
            "Clone only from the disk with this serial number (or kernel name, without a serial). Needed with --yes where source and target look swapped.",
            valueName: "SERIAL")) var confirmSource: String?
    @Flag(help: "Trim the target first.") var discard = false
    @Flag(help: "Read the target first, and write only the chunks that differ: for a rollback.") var delta = false
    @Flag(
        inversion: .prefixedNo,
        help:
            "Make the restored system boot, with its own programs where it has them (default: only in the recovery environment)."
    )
    var bootRepair: Bool?
    @Option(
        help: """
            The firmware that the restored disk is to start by. keep: as captured. auto: that of this machine, where \
            GRUB can be installed anew. bios, uefi: that one, or the restore is refused. An MBR becomes a GPT for UEFI.
            """
    )
    var firmware = FirmwareChoice.keep
    @Flag(
        help:
            "On a disk with another sector size, also restore contents that are not known to work there (raw contents, locked LUKS)."
    )
    var trustUnknown = false
    @Flag(help: "Print one JSON object.") var json = false
    @Option(help: "The logical sector size of a raw image file: 512 or 4096.") var sectorSize: SectorSize?
    @Option(help: "Restore only an image with this id, or beginning of an id.") var expectImageID: String?
    @Option(
        help: ArgumentHelp(
            "Restore only if the target still has this sequence number (diskseq in sysfs): its name may belong to another disk by now.",
            valueName: "N")) var expectDiskSequence: UInt64?
    @Option(
        help: ArgumentHelp(
            "Record on the restored disk, before its first partition, that this job is done: reforge.job-id reads the record.",
            valueName: "ID")) var jobID: String?
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var eventOptions: EventOptions
    @OptionGroup var luksOptions: LUKSOptions
    @OptionGroup var backingOptions: BackingOptions
    @OptionGroup var identityOptions: IdentityOptions

    func validate() throws {
        if let why = job.contradiction { throw ValidationError(why) }
        do { _ = try LayoutRequest(policy: layout, parsing: partition) } catch {
            throw ValidationError("--partition: \(error)")
        }
        if let jobID, !RestoreNote.isJobID(jobID) {
            throw ValidationError("--job-id takes 1 to 64 letters, digits, dots, hyphens and underscores")
        }
    }

    private var job: RestoreJob {
        var job = RestoreJob(image: image, disk: disk)
        (job.layout, job.partitions, job.only, job.into) = (layout.rawValue, partition, only, into)
        (job.scratch, job.dryRun, job.isConfirmed) = (scratch, dryRun, yes)
        (job.verifies, job.verifiesFirst, job.discards, job.isDelta) = (verify, verifyFirst, discard, delta)
        (job.salvages, job.confirmedLosses) = (salvage, confirmSalvage)
        (job.repairsBoot, job.trustsUnknown, job.sectorSize) = (bootRepair, trustUnknown, sectorSize?.rawValue)
        (job.expectedImageID, job.expectedDiskSequence) = (expectImageID, expectDiskSequence)
        (job.jobID, job.luksKeyFiles, job.allowsBacking) = (
            jobID, luksOptions.luksKeyFile, backingOptions.allowBacking
        )
        (job.rescues, job.confirmedSource, job.firmware) = (rescue, confirmSource, firmware.rawValue)
        (job.newIdentity, job.hooks) = (identityOptions.newIdentity, identityOptions.hook)
        return job
    }

    func run() throws {
        try RestorePresenter(job: job, json: json).run(keyOptions, eventOptions.sink("restore"))
    }
}

extension LayoutPolicy: ExpressibleByArgument {}
extension FirmwareChoice: ExpressibleByArgument {}
