// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import Operations

struct VerifyPresenter {
    let job: VerifyJob
    let json: Bool

    func run(_ keys: KeyOptions, _ events: any EventSink) throws {
        try CommandRun.run(json: json) { cancellation in
            let operation = VerifyOperation(
                job, keys: KeyRing(keys, events, cancellation), events: events)
            let findings = try operation.run()
            switch findings {
            case .image(let report): try show(report)
            case .repository(let report): try show(report)
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

    private func show(_ report: VerifiedRepository) throws {
        if json { return try Console.json(report) }
        for note in report.notes { Console.message(note) }
        let read =
            job.readsDataPercent == nil && !job.repairs
            ? "the data was not read (--read-data reads it)"
            : "\(ByteText.rounded(report.readByteCount)) of \(ByteText.rounded(report.storedByteCount)) of data read and compared"
        let seen =
            "\(report.snapshots) snapshot\(report.snapshots == 1 ? "" : "s"), \(report.packs) packs, \(report.indexes) indexes; \(read)"
        guard report.isWhole else {
            let more = report.problemCount - report.problems.count
            throw JobFailure(
                .badImage,
                "\(report.repository) is damaged, \(report.problemCount) problem\(report.problemCount == 1 ? "" : "s") (\(seen)):\n"
                    + report.problems.map { "  \($0.sentence)" }.joined(separator: "\n")
                    + (more > 0 ? "\n  and \(more) more" : "")
                    + "\n`reforge restore --salvage` restores the intact data of a snapshot")
        }
        try Console.result("\(job.image) is whole: \(seen)")
    }
}
