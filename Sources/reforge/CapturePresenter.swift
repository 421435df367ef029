// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import JobModel
import LinuxSystem
import Operations

struct CapturePresenter {
    let job: CaptureJob
    let json: Bool

    func run(_ keys: KeyOptions, _ events: any EventSink) throws {
        let cancellation = Cancellation()
        let operation = CaptureOperation(
            job, keys: KeyRing(keys, events, cancellation), events: events,
            toolVersion: ProgramVersion.text)
        CommandRun.leaves(.init(sentences: operation.leftBehind))
        try CommandRun.run(json: json, cancellation: cancellation) { _ in
            let report = try operation.run()
            try show(report)
            if let loss = report.lossSentence(job.disk) { Console.message("reforge: \(loss)") }
            return report.status
        }
    }

    private func show(_ report: CaptureReport) throws {
        let toError = job.image == "-"
        if json {
            if toError {
                Console.message(String(decoding: try JSONText.encode(report, pretty: true), as: UTF8.self))
            } else {
                try Console.json(report)
            }
            return
        }
        for warning in report.warnings { Console.message("warning: \(warning)") }
        let rate = ByteText.rate(report.usedByteCount, seconds: report.seconds)
        let repositoryLine =
            "captured \(ByteText.rounded(report.readByteCount)) read: \(ByteText.rounded(report.newByteCount)) new, "
            + "\(ByteText.rounded(report.deduplicatedByteCount)) deduplicated, \(ByteText.rounded(report.storedByteCount)) stored, in "
            + "\(TerminalEvents.duration(Int(report.seconds.rounded()))) (\(rate)); snapshot "
            + "\(report.imageID.prefix(12)) of \(report.host ?? "")"
        if report.host != nil { return try Console.result(repositoryLine) }
        let line =
            "captured \(ByteText.rounded(report.usedByteCount)) in use of \(ByteText.rounded(report.diskByteCount)) into "
            + "\(ByteText.rounded(report.imageByteCount)) in \(TerminalEvents.duration(Int(report.seconds.rounded()))) "
            + "(\(rate)), image id \(report.imageID.prefix(16))…"
        toError ? Console.message(line) : try Console.result(line)
    }
}
