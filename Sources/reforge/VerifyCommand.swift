// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import ObjectStore
import Operations
import Repository
import SystemPackage

struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Checks an image, a snapshot or a whole repository.",
        discussion: """
            An image is read whole: its header, every record, every chunk, the index and the footer. Of a repository the structure is \
            always checked (every index, pack, snapshot and chunk list, and that every chunk is there); --read-data also reads, decrypts and \
            compares all data, or a share of it.

            Damage names the snapshot, the partition and the byte range of the disk. Exit code 65 where anything is wrong.

            Examples:

              reforge verify laptop.img.zst
              reforge verify /mnt/backup/repo
              reforge verify /mnt/backup/repo --read-data=10
              reforge verify /mnt/backup/repo@latest --read-data
              reforge verify /mnt/backup/repo --repair

            JSON fields of an image: schema (1), image, imageID, chunks, dataByteCount, unreadable, seconds; of a repository: schema, \
            repository, isWhole, snapshots, packs, indexes, readByteCount, storedByteCount, problemCount, problems [{snapshot, partition, disk, \
            what}], notes, seconds.
            """)

    @Argument(help: "An image, - for standard input, a repository, or a snapshot.") var image: String
    @Option(
        name: .customLong("read-data"), defaultAsFlag: Percentage(value: 100),
        help: ArgumentHelp("Read the data of a repository too, all of it or this share.", valueName: "percent"))
    var readData: Percentage?
    @Flag(
        help:
            "Read all data of a repository, and set aside what is damaged: the next capture of a disk that still has it heals it."
    )
    var repair = false
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var eventOptions: EventOptions

    func validate() throws {
        if repair, readData != nil { throw ValidationError("--repair reads all data: leave out --read-data") }
    }

    /// A share in percent, more than none.
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
        let events = eventOptions.sink()
        try CommandRun.run(json: json) {
            var job = VerifyJob(image: image)
            (job.readsDataPercent, job.repairs) = (readData?.value, repair)
            let operation = VerifyOperation(
                job, keys: KeyRing(keyOptions, events), events: events)
            let findings = try operation.run()
            switch findings {
            case .image(let report): try show(report)
            case .repository(let name, let report, let seconds): try show(report, name, seconds)
            }
            return findings.isWhole ? .done : .badImage
        }
    }

    private func show(_ report: VerifyOperation.VerifiedImage) throws {
        if json { return try Console.json(report) }
        try Console.result(
            "\(image) is whole: \(report.chunks) chunks, \(ByteText.rounded(report.dataByteCount)) of data, id "
                + "\(report.imageID.prefix(16))…")
        for text in report.unreadableTexts { Console.message("warning: \(text)") }
    }

    private struct RepositoryReport: Encodable {
        struct Problem: Encodable {
            var snapshot: String?
            var partition: Int?
            var disk: ByteRange?
            var what: String
        }
        var schema = 1
        var repository: String
        var isWhole: Bool
        var snapshots: Int
        var packs: Int
        var indexes: Int
        var readByteCount: UInt64
        var storedByteCount: UInt64
        var problemCount: Int
        var problems: [Problem]
        var notes: [String]
        var seconds: Double
    }

    private func show(_ report: VerifyReport, _ path: String, _ seconds: Double) throws {
        if json {
            return try Console.json(
                RepositoryReport(
                    repository: path, isWhole: report.isWhole, snapshots: report.snapshotCount,
                    packs: report.packCount, indexes: report.indexCount, readByteCount: report.readByteCount,
                    storedByteCount: report.storedByteCount, problemCount: report.problemCount,
                    problems: report.problems.map {
                        .init(snapshot: $0.snapshot?.description, partition: $0.partition, disk: $0.disk, what: $0.what)
                    }, notes: report.notes, seconds: seconds))
        }
        for note in report.notes { Console.message(note) }
        let read =
            readData == nil && !repair
            ? "the data was not read (--read-data reads it)"
            : "\(ByteText.rounded(report.readByteCount)) of \(ByteText.rounded(report.storedByteCount)) of data read and compared"
        let seen =
            "\(report.snapshotCount) snapshot\(report.snapshotCount == 1 ? "" : "s"), \(report.packCount) packs, \(report.indexCount) indexes; \(read)"
        guard report.isWhole else {
            let more = report.problemCount - report.problems.count
            throw JobFailure(
                .badImage,
                "\(path) is damaged, \(report.problemCount) problem\(report.problemCount == 1 ? "" : "s") (\(seen)):\n"
                    + report.problems.map { "  \($0)" }.joined(separator: "\n")
                    + (more > 0 ? "\n  and \(more) more" : "")
                    + "\n`reforge restore --salvage` brings back what is left of a snapshot")
        }
        try Console.result("\(image) is whole: \(seen)")
    }
}
