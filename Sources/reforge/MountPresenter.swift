// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import Operations

struct MountPresenter {
    let job: MountJob
    let json: Bool

    func run(_ keys: KeyOptions, _ events: any EventSink) throws {
        try CommandRun.run(json: json) { cancellation in
            try MountOperation(job, keys: KeyRing(keys, events, cancellation), events: events, ready: show).run()
        }
    }

    private func show(_ report: MountReport) throws {
        if json { return try Console.json(report) }
        try Console.result(report.path)
        for line in report.hints(isRoot: SystemFacts.isRoot) { Console.message(line) }
    }
}
