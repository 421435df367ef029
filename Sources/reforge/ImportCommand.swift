// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import JobModel

struct ImportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Makes an image or snapshots of a disk that another tool captured.",
        discussion: """
            SOURCE is a folder of Clonezilla or FOG, a partclone image (in pieces: the first one), or a raw image, \
            compressed by gzip, bzip2, xz, lzma, lzip, lz4, lzop or zstd, or not. It is read once, and every checksum in it \
            is checked.

            Examples:

              reforge import /mnt/clonezilla/laptop repo@
              reforge import /mnt/clonezilla/laptop laptop.img.zst --disk sda
              reforge import sda1.ext4-ptcl-img.gz.aa root.img.zst

            A folder with several disks becomes one snapshot each; an image takes the disk that --disk names.

            JSON fields: schema (1), disks [{name, format, id, readByteCount, newByteCount, deduplicatedByteCount, \
            storedByteCount, warnings, lost}], seconds.
            """)

    @Argument(help: "A folder or an image of another tool.") var source: String
    @Argument(help: "REPO@, or an image file.") var destination: String
    @Option(help: "The disk of a folder with several, as the captured machine named it (sda).") var disk: String?
    @Option(help: "The zstd compression level (1 to 22).") var level = 3
    @Flag(help: "Encrypt the image file that is written (.img.enc).") var encrypt = false
    @Flag(help: "Replace an existing image or empty file. Any other file stays.") var overwrite = false
    @Option(help: "A remark that is stored in the image.") var note = ""
    @Option(help: "A tag; may be repeated.") var tag: [String] = []
    @Option(help: "The captured machine's name in a repository (default: the one that the folder has).") var host:
        String?
    @Option(
        help: ArgumentHelp(
            "Decompress the disk into this folder first: its filesystems can be made smaller from the image then.",
            valueName: "folder"))
    var scratch: String?
    @Flag(
        help:
            "Import the rest of a source with missing or damaged parts; these become zeros, listed as lost. Exit code 65."
    )
    var salvage = false
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var backingOptions: BackingOptions
    @OptionGroup var eventOptions: EventOptions

    func validate() throws {
        guard ZstdCompressor.levels.contains(level) else { throw ValidationError("--level takes 1 to 22") }
        guard tag.allSatisfy({ !$0.isEmpty && !$0.contains(",") && $0.allSatisfy { !$0.isNewline } }) else {
            throw ValidationError("a tag is not empty, and has no comma in it")
        }
    }

    private var job: ImportJob {
        var job = ImportJob(source: source, destination: destination)
        (job.disk, job.level, job.encrypts, job.overwrites) = (disk, level, encrypt, overwrite)
        (job.note, job.tags, job.host, job.scratch, job.salvages) = (note, tag, host, scratch, salvage)
        job.allowsBacking = backingOptions.allowBacking
        return job
    }

    func run() throws {
        try ImportPresenter(job: job, json: json).run(keyOptions, eventOptions.sink("import"))
    }
}
