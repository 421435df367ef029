// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import JobModel

struct CopyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "copy",
        abstract: "Copies a snapshot or an image into another repository, or into one image file.",
        discussion: """
            All data is read and checked, and chunk ids are recomputed for the destination; only chunks that are \
            missing there are written.

            Examples:

              reforge copy repo@latest /media/stick/laptop.img.zst
              reforge copy laptop.img.zst repo@
              reforge copy repo@ /mnt/offsite/repo@ --to-password-file offsite-password
              reforge copy damaged.img.zst rest.img.zst --salvage

            With REPO@ as the source, every snapshot that the destination does not have is copied.

            JSON fields: schema (1), copies [{source, id, readByteCount, newByteCount, deduplicatedByteCount, \
            storedByteCount, lost}], skipped, damagedSkipped, seconds.
            """)

    @Argument(help: "A snapshot, an image, - for standard input, or REPO@ for all its snapshots.") var source: String
    @Argument(help: "REPO@, an image file, or - for standard output.") var destination: String
    @Option(help: "The zstd compression level (1 to 22) in the destination.") var level = 3
    @Flag(help: "Encrypt the image file that is written (.img.enc).") var encrypt = false
    @Flag(help: "Replace an existing image or empty file. Any other file stays.") var overwrite = false
    @Option(help: "The host name in the destination repository (default: the source's).") var host: String?
    @Flag(help: "Print one JSON object.") var json = false
    @Flag(help: "Store data of an encrypted source in a repository that is not encrypted.") var toPlain = false
    @Flag(
        help:
            "Copy the intact data of a damaged source; lost ranges become zeros, and the copy records them as unreadable. Exit code 65 if anything is lost."
    )
    var salvage = false
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var backingOptions: BackingOptions
    @OptionGroup var eventOptions: EventOptions
    @Option(help: ArgumentHelp("A file with the password of the destination.", valueName: "file"))
    var toPasswordFile: String?

    func validate() throws {
        guard ZstdCompressor.levels.contains(level) else { throw ValidationError("--level takes 1 to 22") }
    }

    private var job: CopyJob {
        var job = CopyJob(source: source, destination: destination)
        (job.level, job.encrypts, job.overwrites, job.host) = (level, encrypt, overwrite, host)
        (job.storesInTheClear, job.salvages, job.allowsBacking) = (toPlain, salvage, backingOptions.allowBacking)
        return job
    }

    func run() throws {
        var toOptions = keyOptions
        if let toPasswordFile { toOptions.passwordFile = toPasswordFile }
        try CopyPresenter(job: job, json: json).run(
            keyOptions, toOptions, hasOwnPassword: toPasswordFile != nil, eventOptions.sink("copy"))
    }
}
