// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import Operations

struct ServePresenter {
    let job: ServeJob
    let json: Bool

    func run(_ keys: KeyOptions, _ events: any EventSink) throws {
        try CommandRun.run(json: json) { cancellation in
            try ServeOperation(job, keys: KeyRing(keys, events, cancellation), events: events).run { report in
                try Console.result(report, json: json, lines: [report.uri])
                Console.message(hints(report))
            }
        }
    }

    private func hints(_ report: ServeReport) -> String {
        """
        serving \(report.source) (\(ByteText.rounded(report.byteCount)), read-only) until Ctrl-C. For example:
          qemu-img info '\(report.uri)'
          nbdcopy '\(report.uri)' disk.raw
          guestfish --ro --format=raw -a '\(report.uri)'
        """
    }
}
