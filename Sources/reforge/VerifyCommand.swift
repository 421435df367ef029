// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import DiskModel
import ImageStore
import Imaging
import LinuxSystem
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

            JSON fields of an image: schema (1), image, imageID, chunks, dataByteCount, unreadable, seconds; of a repository: see \
            schema, snapshots, packs, blobs, readByteCount, problems.
            """)

    @Argument(help: "An image, - for standard input, a repository, or a snapshot.") var image: String
    @Option(
        name: .customLong("read-data"), defaultAsFlag: Percentage(value: 100),
        help: ArgumentHelp("Read the data of a repository too, all of it or this share.", valueName: "percent"))
    var readData: Percentage?
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var keyOptions: KeyOptions

    /// A share in hundredths, more than none.
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

    private struct Report: Encodable {
        var schema = 1
        var image: String
        var imageID: String
        var chunks: Int
        var dataByteCount: UInt64
        var unreadable: [ByteRange]
        var seconds: Double
    }

    func run() throws {
        try CommandRun.run(json: json) {
            let keys = KeyRing(keyOptions)
            if readData != nil, image != "-" {
                Console.message("an image is always read whole: --read-data changes nothing")
            }
            return try verifyImage(keys)
        }
    }

    private func verifyImage(_ keys: KeyRing) throws -> ExitStatus {
        let start = SystemFacts.monotonicSeconds()
        let input = try CaptureInput.open(image, keys, operation: .verify)
        let outcome = try Self.verify(input)
        let seconds = SystemFacts.monotonicSeconds() - start
        let holes = outcome.ending.lateFacts.unreadable
        if json {
            try Console.json(
                Report(
                    image: image, imageID: outcome.ending.id.description, chunks: outcome.chunkCount,
                    dataByteCount: outcome.dataByteCount, unreadable: holes, seconds: seconds))
        } else {
            try Console.result(
                "\(image) is whole: \(outcome.chunkCount) chunks, \(ByteText.rounded(outcome.dataByteCount)) of data, id "
                    + "\(outcome.ending.id.description.prefix(16))…")
            for hole in holes { Console.message("warning: \(input.reader.header.manifest.unreadableText(hole))") }
        }
        return .done
    }

    /// Reads and checks all of an image.
    static func verify(_ input: CaptureInput) throws -> CaptureVerifier.Outcome {
        let progress = Progress()
        let display = ProgressDisplay(progress)
        defer { display.end() }
        return try CaptureVerifier.verify(input.reader, progress: progress)
    }
}
