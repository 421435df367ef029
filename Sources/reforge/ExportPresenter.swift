// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import Imaging
import JobModel
import LinuxSystem
import Operations

struct ExportPresenter {
    let job: ExportJob
    let json: Bool

    func run(_ keys: KeyOptions, _ events: any EventSink) throws {
        CommandRun.leaves(.init(sentences: { [job] _ in ExportOperation.leftBehind(job) }))
        try CommandRun.run(json: json) { cancellation in
            let report = try ExportOperation(job, keys: KeyRing(keys, events, cancellation), events: events).run()
            try show(report)
            return report.outcome.status
        }
    }

    private func show(_ report: ExportReport) throws {
        if json {
            try Console.json(report)
        } else if report.dryRun {
            try Console.result(
                "would make \(report.output): \(report.format), a disk of \(ByteText.rounded(report.byteCount))"
                    + (report.machine.map { ", adapted to a \($0)" } ?? ""))
            try showStart(report)
        } else {
            for problem in report.incomplete { Console.message("not finished: \(problem)") }
            try Console.result(
                "made \(report.output): \(report.format), a disk of \(ByteText.rounded(report.byteCount)) that takes "
                    + "\(ByteText.rounded(report.storedByteCount)), in \(TerminalEvents.duration(Int(report.seconds.rounded())))"
            )
            try showStart(report)
        }
        for text in report.unreadable { Console.message("reforge: \(text)") }
        guard !report.lost.isEmpty else { return }
        let amount = ByteText.exact(report.lost.reduce(0) { $0 + $1.captured.byteCount })
        Console.message(
            "reforge: \(report.image) is damaged: \(report.output) has all data that it still holds; \(amount) are lost, and "
                + "are zeros. Check its filesystems before they are used")
    }

    private func showStart(_ report: ExportReport) throws {
        for change in report.changed { try Console.result("adapted: \(change)") }
        for line in report.findings.flatMap(\.lines) { try Console.result("  \(line)") }
        try Console.result(report.start.firmwareText)
        if let advice = report.start.advice { try Console.result(advice) }
        if let command = report.start.command { try Console.result("start it: \(command)") }
    }
}
