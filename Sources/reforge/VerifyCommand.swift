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
        abstract: "Reads an image and checks its header, every record, every chunk, the index and the footer.",
        discussion: """
            Names the first bad byte range of the disk, and the partition it belongs to. Exit code 65 where anything is wrong.

            Example:

              reforge verify laptop.img.zst

            JSON fields: schema (1), image, imageID, chunks, dataByteCount, seconds.
            """)

    @Argument(help: "An image, or - for standard input.") var image: String
    @Flag(help: "Print one JSON object.") var json = false

    private struct Report: Encodable {
        var schema = 1
        var image: String
        var imageID: String
        var chunks: Int
        var dataByteCount: UInt64
        var seconds: Double
    }

    func run() throws {
        try CommandRun.run(json: json) {
            let start = SystemFacts.monotonicSeconds()
            let outcome = try Self.verify(image)
            let seconds = SystemFacts.monotonicSeconds() - start
            if json {
                try Console.json(
                    Report(
                        image: image, imageID: outcome.ending.id.description, chunks: outcome.chunkCount,
                        dataByteCount: outcome.dataByteCount, seconds: seconds))
            } else {
                try Console.result(
                    "\(image) is whole: \(outcome.chunkCount) chunks, \(ByteText.rounded(outcome.dataByteCount)) of data, id "
                        + "\(outcome.ending.id.description.prefix(16))…")
            }
            return .done
        }
    }

    /// Reads and checks all of an image.
    static func verify(_ image: String) throws -> CaptureVerifier.Outcome {
        let progress = Progress()
        let display = ProgressDisplay(progress)
        defer { display.end() }
        let input = try ImageFile.openForStreaming(image)
        let stream = try ImageStreamReader(input.raw, name: image == "-" ? "standard input" : image)
        return try CaptureVerifier.verify(stream, progress: progress)
    }
}
