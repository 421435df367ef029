// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import JobModel
import Operations

struct CopyPresenter {
    let job: CopyJob
    let json: Bool

    func run(
        _ keys: KeyOptions, _ targetKeys: KeyOptions, hasOwnPassword: Bool, _ events: any EventSink
    ) throws {
        try CommandRun.run(json: json) { cancellation in
            let report = try CopyOperation(
                job, keys: KeyRing(keys, events, cancellation), targetKeys: KeyRing(targetKeys, events, cancellation),
                hasOwnPassword: hasOwnPassword, events: events
            ).run()
            try show(report)
            return report.outcome.status
        }
    }

    private func show(_ report: CopyReport) throws {
        if json {
            let text = String(decoding: try JSONText.encode(report, pretty: true), as: UTF8.self)
            job.destination == "-" ? Console.message(text) : try Console.result(text)
            return
        }
        for copy in report.copies {
            let line =
                "copied \(copy.source): \(ByteText.rounded(copy.readByteCount)) read, \(ByteText.rounded(copy.newByteCount)) new, "
                + "\(ByteText.rounded(copy.deduplicatedByteCount)) there already, \(ByteText.rounded(copy.storedByteCount)) stored; "
                + "id \(copy.id.prefix(16))…"
            job.destination == "-" ? Console.message(line) : try Console.result(line)
        }
        if report.copies.contains(where: { $0.lost != nil }) {
            Console.message(
                "reforge: the source is damaged (it was not changed): the copy has its intact data, and records the lost ranges"
            )
        }
        if report.skipped > 0 { Console.message("\(report.skipped) snapshots were there already") }
    }
}
