// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import JobModel
import Operations
import Repository

/// Runs a verification and prints its result.
struct VerifyPresenter {
    let job: VerifyJob
    let json: Bool

    func run(_ keys: KeyOptions, _ events: any EventSink) throws {
        try CommandRun.run(json: json) {
            let operation = VerifyOperation(job, keys: KeyRing(keys, events), events: events)
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
            "\(job.image) is whole: \(report.chunks) chunks, \(ByteText.rounded(report.dataByteCount)) of data, id "
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
            job.readsDataPercent == nil && !job.repairs
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
        try Console.result("\(job.image) is whole: \(seen)")
    }
}
