// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import JobModel

struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Checks an image, a snapshot or a whole repository.",
        discussion: """
            An image is read completely: its header, every record, every chunk, the index and the footer. For a \
            repository, the structure is always checked (every index, pack, snapshot and chunk list, and the presence \
            of every chunk); --read-data also reads, decrypts and compares all data, or a share of it.

            A report of damage names the snapshot, the partition and the byte range of the disk. Exit code 65 if \
            anything is wrong.

            Examples:

              reforge verify laptop.img.zst
              reforge verify /mnt/backup/repo
              reforge verify /mnt/backup/repo --read-data=10
              reforge verify /mnt/backup/repo@latest --read-data
              reforge verify /mnt/backup/repo --repair

            JSON fields of an image: schema (1), image, imageID, chunks, dataByteCount, unreadable, seconds; of a \
            repository: schema, repository, isWhole, snapshots, packs, indexes, readByteCount, storedByteCount, \
            problemCount, problems [{snapshot, partition, disk, what}], notes, seconds.
            """)

    @Argument(help: "An image, - for standard input, a repository, or a snapshot.") var image: String
    @Option(
        name: .customLong("read-data"),
        help: ArgumentHelp(
            "Also read the data of a repository: this share, with =; without a value, all of it.", valueName: "percent")
    )
    var readData: Percentage?
    @Flag(
        help:
            "Read all data of a repository, and set damaged data aside: the next capture of a disk that still holds it stores it again."
    )
    var repair = false
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var backingOptions: BackingOptions
    @OptionGroup var eventOptions: EventOptions

    func validate() throws {
        if repair, readData != nil { throw ValidationError("--repair reads all data: leave out --read-data") }
    }

    /// A share in percent, above zero.
    struct Percentage: ExpressibleByArgument {
        var value: Double
        init(value: Double) { self.value = value }
        init?(argument: String) {
            guard let value = Double(argument.hasSuffix("%") ? String(argument.dropLast()) : argument), value > 0,
                value <= 100
            else {
                return nil
            }
            self.value = value
        }
    }

    func run() throws {
        var job = VerifyJob(image: image)
        (job.readsDataPercent, job.repairs, job.allowsBacking) = (
            readData?.value, repair, backingOptions.allowBacking
        )
        try VerifyPresenter(job: job, json: json).run(keyOptions, eventOptions.sink("verify"))
    }
}
