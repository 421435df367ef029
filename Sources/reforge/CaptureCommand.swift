// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import Filesystems
import JobModel

struct CaptureCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "capture", abstract: "Captures a whole disk into an image or a repository. The disk is only read.",
        discussion: """
            What is understood (\(VolumeIdentifier.mappedNames.joined(separator: ", "))) is captured by its used sectors, \
            everything else whole; LUKS only with its key.
            The image or snapshot appears only when it is finished. Into a repository, only what is not stored there already is
            written; after an interruption the same command goes on from what is stored.

            Examples:

              reforge capture /dev/sda /mnt/backup/laptop.img.zst --note "before the upgrade"
              reforge capture /dev/sda /mnt/backup/repo@ --tag nightly
              reforge capture /dev/sda - | ssh store 'cat > laptop.img.zst'
              reforge capture /dev/sda laptop.img.zst --luks-key-file /root/disk.key

            With the key of a LUKS volume, only its sectors in use are captured, still encrypted; without, all of it is.

            A source must hold still: an unmounted disk, a virtual machine's disk image, a disk whose mounted filesystems are LVM \
            volumes (--snapshot), or any disk from the recovery medium (reforge.capture=).

            JSON fields: schema (1), image, imageID, imageUUID, diskByteCount, usedByteCount, imageByteCount, seconds, \
            partitions [{number, filesystem, byteCount, usedByteCount, mapSource, wholeReason}], warnings, unreadable, host, \
            readByteCount, newByteCount, deduplicatedByteCount, storedByteCount.
            """)

    @Argument(help: "The disk: a block device or a raw image file.") var disk: String
    @Argument(help: "The image to write, - for standard output, or REPO@ for a repository.") var image: String
    @Option(
        help:
            "The compression level: zstd 1 to 19, and up to 22 for those with time (default 3); xz 0 to 9 (default 6).")
    var level: Int?
    @Flag(help: "Copy every sector, exactly.") var allSectors = false
    @Flag(
        help: "Leave out what Windows' pagefile.sys, swapfile.sys and hiberfil.sys hold (all but their first 64 KiB).")
    var skipPageFiles = false
    @Flag(help: "Believe allocation maps without comparing them with what files use: faster, and no safeguard.")
    var trustMaps = false
    @Option(
        help:
            "The length of a chunk of an image: a power of two from 64K to 64M (default 8M). A repository has its own."
    )
    var chunkSize: ByteSize?
    @Option(help: "How an image is compressed: zstd, or xz (.img.xz, smaller and slower: for archives).") var codec =
        ImageCodec.zstd
    @Flag(help: "Encrypt the image (.img.enc); asks for a password.") var encrypt = false
    @Option(help: "A remark to keep in the image.") var note = ""
    @Option(help: "The captured machine's name in a repository (default: the captured system's own name).") var host:
        String?
    @Option(
        name: .customLong("disk"),
        help: "The disk's name in a repository (default: its serial number, else what is on it tells).")
    var diskName: String?
    @Option(help: "A tag; may be repeated.") var tag: [String] = []
    @Flag(help: "Go on where sectors cannot be read: retry, read around them, and record the holes.") var rescue = false
    @Flag(help: "Read mounted LVM volumes from snapshots that are made for it and removed again.") var snapshot = false
    @Flag(
        help:
            "Capture although a partition is mounted read-write; such partitions are copied whole, and may not be consistent."
    )
    var allowMounted = false
    @Flag(
        help: ArgumentHelp(
            "Date a snapshot by this machine's clock, although the repository's clock or newest snapshot says otherwise."
        ))
    var trustClock = false
    @Flag(help: "Capture a disk also where a restore onto it was interrupted: what it holds is not whole.")
    var allowPartial = false
    @Flag(help: "Replace an image that exists. Files that are neither images nor empty stay.") var overwrite = false
    @Flag(help: "Capture DISK also where it is an image file itself (of Reforge or another tool), as the bytes it has.")
    var asDisk = false
    @Flag(help: "Print one JSON object (on standard error where the image goes to standard output).") var json = false
    @Option(help: "The logical sector size of a raw image file: 512 or 4096.") var sectorSize: SectorSize?
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var eventOptions: EventOptions
    @OptionGroup var luksOptions: LUKSOptions

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
        job.luksKeyFiles = luksOptions.luksKeyFile
        return job
    }

    func run() throws {
        try CapturePresenter(job: job, json: json).run(keyOptions, eventOptions.sink("capture"))
    }
}
