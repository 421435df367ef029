// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import JobModel
import Operations

struct ImportPresenter {
    let job: ImportJob
    let json: Bool

    func run(_ keys: KeyOptions, _ events: any EventSink) throws {
        try CommandRun.run(json: json) { cancellation in
            let report = try ImportOperation(job, keys: KeyRing(keys, events, cancellation), events: events).run()
            try show(report)
            return report.outcome.status
        }
    }

    private func show(_ report: ImportReport) throws {
        if json {
            let text = String(decoding: try JSONText.encode(report, pretty: true), as: UTF8.self)
            job.destination == "-" ? Console.message(text) : try Console.result(text)
            return
        }
        for disk in report.disks {
            let line =
                "imported \(disk.name) (\(disk.format)): \(ByteText.rounded(disk.readByteCount)) read, "
                + "\(ByteText.rounded(disk.newByteCount)) new, \(ByteText.rounded(disk.deduplicatedByteCount)) there already, "
                + "\(ByteText.rounded(disk.storedByteCount)) stored; id \(disk.id.prefix(16))…"
            job.destination == "-" ? Console.message(line) : try Console.result(line)
        }
        if report.disks.contains(where: { $0.lost != nil }) {
            Console.message(
                "reforge: parts of the source are missing or damaged: the import has the rest, and records the lost ranges"
            )
        }
    }
}
