// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Glibc
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Operations

/// Exports as a whole, with QEMU's own programs as judges.
@Suite struct ExportOperationTests {
    private let scratch: ScratchFolder
    private let events = KeptEvents()
    init() throws { scratch = try ScratchFolder() }

    private func path(_ name: String) -> String { scratch.path.appending(name).string }
    private func keys(_ cancellation: Cancellation = Cancellation()) -> KeyRing {
        KeyRing(FixedPassword(bytes: nil), events, cancellation)
    }

    /// A disk of 24 MiB with a GPT and raw bytes in one partition, and its image `disk.img.zst`.
    private func makeImage() throws {
        let disk = scratch.path.appending("disk.raw")
        var random = SeededGenerator(seed: Sample.seed())
        var bytes = [UInt8](repeating: 0, count: 24 << 20)
        for index in 2 << 20..<4 << 20 { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
        try Files.write(bytes, to: disk)
        let made = try ChildProcess.run(
            ["sfdisk", "-q", disk.string], input: Array("label: gpt\nstart=2048, size=32768\n".utf8))
        try #require(made.succeeded, "\(made.lastWords)")
        var job = CaptureJob(disk: disk.string, image: path("disk.img.zst"))
        job.chunkByteCount = 1 << 16
        _ = try CaptureOperation(job, keys: keys(), events: events, toolVersion: "test").run()
    }

    private func export(
        _ image: String, _ output: String, _ cancellation: Cancellation = Cancellation(),
        change: (inout ExportJob) -> Void = { _ in }
    ) throws -> ExportReport {
        var job = ExportJob(image: path(image), output: path(output))
        change(&job)
        return try ExportOperation(job, keys: keys(cancellation), events: events).run()
    }

    /// Without QEMU's locks (-U): a child that another test has forked holds ours until it becomes another program.
    private func difference(_ output: String, _ format: ExportFormat) throws -> String? {
        let compared = try ChildProcess.run(
            ["qemu-img", "compare", "-U", "-f", format.driver, "-F", "raw", path(output), path("disk.raw")])
        return compared.succeeded ? nil : compared.lastWords
    }

    @Test(arguments: ExportFormat.allCases) func theBytesAreThoseOfTheDisk(format: ExportFormat) throws {
        try makeImage()
        for source in ["disk.img.zst", "disk.raw"] {
            let report = try export(source, "out") { ($0.format, $0.overwrites) = (format.rawValue, true) }
            #expect(try difference("out", format) == nil)
            #expect(report.byteCount == 24 << 20 && report.format == format.rawValue && report.outcome.status == .done)
            #expect((report.imageID != nil) == (source != "disk.raw"))
        }
        #expect(Files.names(in: scratch.path) == ["disk.img.zst", "disk.raw", "out"])
        #expect(events.reports.last?.operation == "export")
    }

    @Test func aRawDiskIsLaidOutAgainWithoutFUSE() throws {
        try makeImage()
        let report = try export("disk.img.zst", "large.raw") { $0.byteCount = 48 << 20 }
        #expect(try Files.status(FilePath(path("large.raw")))?.byteCount == 48 << 20)
        let survey = try OpenedDisk(path("large.raw"), .readOnly).survey()
        #expect(survey.table.kind == .gpt && survey.table.condition == .intact)
        #expect(report.plan?.plan.target.path == path("large.raw") && report.outcome.status == .done)
        // The end of the restore is not the end of the export.
        #expect(events.reports.filter { $0.operation == "restore" }.isEmpty)
    }

    /// A chunk that is damaged is no run of zeros.
    @Test func damageLeavesNoOutput() throws {
        try makeImage()
        let image = FilePath(path("disk.img.zst"))
        var bytes = try Files.read(image, limit: 1 << 30)
        bytes[bytes.count / 2] ^= 1
        try Files.write(bytes, to: image)
        for size: UInt64? in [nil, 48 << 20] {
            let error = #expect(throws: JobFailure.self) {
                _ = try export("disk.img.zst", "out.img") { $0.byteCount = size }
            }
            #expect(error?.status == .badImage && error?.message.contains("--salvage") == true)
            #expect(Files.names(in: scratch.path) == ["disk.img.zst", "disk.raw"])
        }
        let salvaged = try export("disk.img.zst", "out.img") { $0.salvages = true }
        #expect(salvaged.outcome.status == .badImage && !salvaged.lost.isEmpty)
        #expect(Files.exists(FilePath(path("out.img"))))
    }

    @Test func anInterruptionLeavesNoOutput() throws {
        try makeImage()
        let cancellation = Cancellation()
        cancellation.request(SIGINT)
        let error = #expect(throws: JobFailure.self) { _ = try export("disk.raw", "out.qcow2", cancellation) }
        #expect(error?.status == .interrupted && error?.message.contains("was not made") == true)
        #expect(Files.names(in: scratch.path) == ["disk.img.zst", "disk.raw"])
    }
}
