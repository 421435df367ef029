// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import Imaging
import JobModel
import LinuxSystem
import Operations

struct RestorePresenter {
    let job: RestoreJob
    let json: Bool

    func run(_ keys: KeyOptions, _ events: any EventSink) throws {
        let cancellation = Cancellation()
        let operation = RestoreOperation(
            job, keys: KeyRing(keys, events, cancellation), events: events,
            confirmer: TerminalConfirmer())
        if !job.dryRun {
            CommandRun.leaves(.init(sentences: operation.leftBehind, diskState: operation.diskStateNow))
        }
        try CommandRun.run(json: json, cancellation: cancellation, diskState: operation.diskStateNow) { _ in
            let report = try operation.run()
            if job.dryRun { return try showPlan(report) }
            do { return try show(report) } catch {
                let failure = JobFailure(error, cancellation: cancellation)
                throw failure.followed(by: operation.leftBehind(failure.status))
            }
        }
    }

    private func showPlan(_ report: RestoreReport) throws -> ExitStatus {
        if json {
            try Console.json(report)
        } else {
            try Console.result(report.planText?.lines.joined(separator: "\n") ?? "")
            if let unfinished = report.unfinished { Console.message(unfinished) }
        }
        if let confirmation = report.confirmation { Console.message("note: \(confirmation)") }
        return .done
    }

    private func show(_ report: RestoreReport) throws -> ExitStatus {
        if let position = report.resumedFrom {
            Console.message("resumed an interrupted restore of this image at \(ByteText.rounded(position))")
        }
        if json {
            try Console.json(report)
        } else {
            for warning in report.warnings { Console.message("warning: \(warning)") }
            for problem in report.incomplete { Console.message("not finished: \(problem)") }
            for finding in report.damage { Console.message("damage: \(finding)") }
            for line in report.lossLines(job.disk) { Console.message(line) }
            for finding in report.bootRepair?.findings ?? [] where finding.isOpen {
                Console.message("boot: \(finding.lines.joined(separator: "; "))")
            }
            for change in report.bootRepair?.changed ?? [] { Console.message("boot repair: \(change)") }
            try Console.result(
                "\(job.isDelta ? "wrote the \(ByteText.rounded(report.writtenByteCount)) that differed" : "restored \(ByteText.rounded(report.writtenByteCount))") onto \(job.disk) in "
                    + "\(TerminalEvents.duration(Int(report.seconds.rounded()))) (\(ByteText.rate(report.writtenByteCount, seconds: report.seconds)))\(job.verifies ? ", read back and compared" : "")"
            )
        }
        if let advice = report.advice { Console.message(advice) }
        if let loss = report.lossSentence(job) { Console.message("reforge: \(loss)") }
        return report.status
    }
}
