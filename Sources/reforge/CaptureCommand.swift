// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import Filesystems
import JobModel

struct CaptureCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "capture", abstract: "Captures a whole disk into an image or a repository. The disk is only read.",
        discussion: """
            Only used sectors are captured of the contents that Reforge understands \
            (\(VolumeIdentifier.mappedNames.joined(separator: ", "))); everything else is captured whole.
            The image or snapshot appears only when it is complete. A repository receives only data that it does not \
            hold yet; after an interruption, the same command continues from the stored data.

            Examples:

              reforge capture /dev/sda /mnt/backup/laptop.img.zst --note "before the upgrade"
              reforge capture /dev/sda /mnt/backup/repo@ --tag nightly
              reforge capture /dev/sda - | ssh store 'cat > laptop.img.zst'
              reforge capture /dev/sda laptop.img.zst --luks-key-file /root/disk.key
              reforge capture vm.qcow2 /mnt/backup/repo@ --host web1

            With the key of a LUKS volume, only its used sectors are captured, still encrypted; without the key, all \
            of them.

            The source must not change during the capture: an unmounted disk, a virtual machine's disk image, a disk \
            whose mounted filesystems are LVM volumes (--snapshot), or any disk from the recovery medium \
            (reforge.capture=).

            JSON fields: schema (1), image, imageID, imageUUID, diskByteCount, usedByteCount, imageByteCount, seconds, \
            partitions [{number, filesystem, byteCount, usedByteCount, mapSource, wholeReason}], warnings, unreadable, \
            host, readByteCount, newByteCount, deduplicatedByteCount, storedByteCount.
            """)

    @Argument(
        help:
            "The disk: a block device, a raw image file, or a virtual machine's disk image (qcow2, VMDK, VHD, VHDX, VDI)."
    ) var disk: String
    @Argument(help: "The image to write, - for standard output, or REPO@ for a repository.") var image: String
    @Option(
        help:
            "The compression level: zstd 1 to 22 (default 3; slow above 19), xz 0 to 9 (default 6).")
    var level: Int?
    @Flag(help: "Capture every sector, used or not.") var allSectors = false
    @Flag(
        help: "Leave out the contents of Windows' pagefile.sys, swapfile.sys and hiberfil.sys after their first 64 KiB."
    )
    var skipPageFiles = false
    @Flag(help: "Trust allocation maps without comparing them with the blocks that files use: faster, but less safe.")
    var trustMaps = false
    @Option(
        help:
            "The chunk length of an image: a power of two from 64K to 64M (default 8M). A repository has its own."
    )
    var chunkSize: ByteSize?
    @Option(help: "The compression of an image: zstd, or xz for archives (.img.xz, smaller and slower).") var codec =
        ImageCodec.zstd
    @Flag(help: "Encrypt the image (.img.enc); asks for a password.") var encrypt = false
    @Option(help: "A remark that is stored in the image.") var note = ""
    @Option(help: "The captured machine's name in a repository (default: the captured system's own name).") var host:
        String?
    @Option(
        name: .customLong("disk"),
        help: "The disk's name in a repository (default: its serial number, else ids of its table and filesystems).")
    var diskName: String?
    @Option(help: "A tag; may be repeated.") var tag: [String] = []
    @Flag(
        help:
            "Continue past unreadable sectors: retry, read around them, and record the holes. Exit code 74 if there are any."
    )
    var rescue = false
    @Flag(help: "Read mounted LVM volumes from snapshots that exist only during the capture.") var snapshot = false
    @Flag(
        help:
            "Capture a disk with partitions mounted read-write; these are captured whole, and may be inconsistent."
    )
    var allowMounted = false
    @Flag(
        help: ArgumentHelp(
            "Date the snapshot by this machine's clock even if the repository's clock or newest snapshot contradicts it."
        ))
    var trustClock = false
    @Flag(help: "Capture a disk that holds an interrupted restore: its contents are incomplete.")
    var allowPartial = false
    @Flag(help: "Replace an existing image or empty file. Any other file stays.") var overwrite = false
    @Flag(help: "Capture DISK byte for byte even if it is an image file itself (of Reforge or another tool).")
    var asDisk = false
    @Flag(help: "Print one JSON object (on standard error if the image goes to standard output).") var json = false
    @Option(help: "The logical sector size of a raw image file: 512 or 4096.") var sectorSize: SectorSize?
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var eventOptions: EventOptions
    @OptionGroup var luksOptions: LUKSOptions
    @OptionGroup var backingOptions: BackingOptions

    enum ImageCodec: String, ExpressibleByArgument, CaseIterable {
        case zstd, xz
        var levels: ClosedRange<Int> { self == .zstd ? ZstdCompressor.levels : 0...9 }
    }

    func validate() throws {
        guard level.map(codec.levels.contains) ?? true else {
            throw ValidationError("--level takes \(codec.levels.lowerBound) to \(codec.levels.upperBound)")
        }
        _ = try chunkSize?.chunkByteCount()
        if allSectors, skipPageFiles {
            throw ValidationError("--all-sectors and --skip-page-files exclude each other")
        }
        if !luksOptions.luksKeyFile.isEmpty {
            if allSectors { throw ValidationError("--all-sectors and --luks-key-file exclude each other") }
            if snapshot { throw ValidationError("--snapshot and --luks-key-file exclude each other") }
        }
        if encrypt, codec == .xz { throw ValidationError("--encrypt and --codec xz exclude each other") }
        guard tag.allSatisfy({ !$0.isEmpty && !$0.contains(",") && $0.allSatisfy { !$0.isNewline } }) else {
            throw ValidationError("a tag is not empty, and has no comma in it")
        }
    }

    private var job: CaptureJob {
        var job = CaptureJob(disk: disk, image: image)
        (job.codec, job.level, job.chunkByteCount) = (codec.rawValue, level, chunkSize.map { Int($0.byteCount) })
        (job.copiesAllSectors, job.skipsPageFiles, job.trustsMaps) = (allSectors, skipPageFiles, trustMaps)
        (job.encrypts, job.note, job.host, job.diskName, job.tags) = (encrypt, note, host, diskName, tag)
        (job.rescues, job.usesSnapshots, job.allowsMounted) = (rescue, snapshot, allowMounted)
        (job.trustsClock, job.allowsPartial, job.overwrites) = (trustClock, allowPartial, overwrite)
        (job.takesImageAsDisk, job.sectorSize) = (asDisk, sectorSize?.rawValue)
        job.allowsBacking = backingOptions.allowBacking
        job.luksKeyFiles = luksOptions.luksKeyFile
        return job
    }

    func run() throws {
        try CapturePresenter(job: job, json: json).run(keyOptions, eventOptions.sink("capture"))
    }
}
