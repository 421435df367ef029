// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import DiskModel
import JobModel
import Operations

struct SnapshotsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshots", abstract: "Lists the snapshots of a repository, oldest first.",
        discussion: """
            Example:

              reforge snapshots /mnt/backup/repo

            JSON fields: schema (1), repository, snapshots [{id, host, disk, started, ended, usedByteCount, \
            addedByteCount, tags}], damaged [{name, error}].
            """)

    @Argument(help: "The repository.") var repository: String
    @Option(help: "Only snapshots of this host.") var host: String?
    @Option(help: "Only snapshots with this tag.") var tag: String?
    @OptionGroup var options: RepositoryOptions

    func run() throws {
        var job = SnapshotsJob(repository: repository)
        (job.host, job.tag) = (host, tag)
        try CommandRun.run(json: options.json) { cancellation in
            let findings = try SnapshotsOperation(job, keys: options.keys(cancellation), events: Console.events).run()
            if findings.snapshots.isEmpty, findings.damaged.isEmpty, !options.json {
                let filter = host == nil && tag == nil ? "" : " with that host and tag"
                Console.message(
                    "no snapshots\(filter); make one with: reforge capture DISK \(findings.repository)@")
            } else {
                try Console.result(findings, json: options.json, lines: findings.lines)
            }
            for one in findings.damaged { Console.message("damaged: \(one.name): \(one.error)") }
            return findings.outcome.status
        }
    }
}

extension SnapshotsOperation.Findings {
    fileprivate var lines: [String] {
        let rows = snapshots.map {
            [
                String($0.id.prefix(12)), $0.host, $0.disk, $0.started, ByteText.rounded($0.usedByteCount),
                ByteText.rounded($0.addedByteCount), $0.tags.joined(separator: ","),
            ]
        }
        return TextTable.lines(["ID", "HOST", "DISK", "TIME (UTC)", "USED", "ADDED", "TAGS"], rows)
    }
}
