// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import JobModel
import Operations

struct ForgetCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "forget", abstract: "Removes snapshots by a retention policy. Prune frees their space.",
        discussion: """
            Counts apply to each host, disk and set of tags separately, never across machines. A snapshot stays if any \
            count keeps it.

            Examples:

              reforge forget repo --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run
              reforge forget repo --keep-last 3 --host web1 && reforge prune repo

            JSON fields: schema (1), dryRun, kept [{id, host, disk, started, tags, reasons}], forgotten [{id, host, \
            disk, started, tags}], damaged.
            """)

    @Argument(help: "The repository.") var repository: String
    @Option(help: "Keep the newest N snapshots.") var keepLast = 0
    @Option(help: "Keep the newest snapshot of each of the last N days with one.") var keepDaily = 0
    @Option(help: "Keep the newest snapshot of each of the last N weeks with one.") var keepWeekly = 0
    @Option(help: "Keep the newest snapshot of each of the last N months with one.") var keepMonthly = 0
    @Option(help: "Keep the newest snapshot of each of the last N years with one.") var keepYearly = 0
    @Option(help: "Only snapshots of this host.") var host: String?
    @Option(help: "Only snapshots with this tag.") var tag: String?
    @Flag(help: "Print what would be removed, and remove nothing.") var dryRun = false
    @OptionGroup var options: RepositoryOptions

    private var job: ForgetJob {
        var job = ForgetJob(repository: repository)
        (job.keepsLast, job.keepsDaily, job.keepsWeekly) = (keepLast, keepDaily, keepWeekly)
        (job.keepsMonthly, job.keepsYearly) = (keepMonthly, keepYearly)
        (job.host, job.tag, job.dryRun) = (host, tag, dryRun)
        return job
    }

    func validate() throws {
        if let why = job.contradiction { throw ValidationError(why) }
    }

    func run() throws {
        try CommandRun.run(json: options.json) { cancellation in
            let findings = try ForgetOperation(job, keys: options.keys(cancellation), events: Console.events).run()
            for one in findings.damaged { Console.message("damaged, and left alone: \(one)") }
            try Console.result(findings, json: options.json, lines: findings.lines(repository))
            return findings.outcome.status
        }
    }
}

extension ForgetOperation.Findings {
    fileprivate func lines(_ repository: String) -> [String] {
        var lines: [String] = []
        for group in groups {
            lines.append(
                "\(group.host)/\(group.disk)\(group.tags.isEmpty ? "" : " [\(group.tags.joined(separator: ","))]"):")
            let stay = group.kept.map { ($0, "keep", $0.reasons?.joined(separator: ", ") ?? "") }
            let go = group.forgotten.map { ($0, dryRun ? "would forget" : "forgotten", "") }
            let rows = (stay + go).sorted { $0.0.started < $1.0.started }.map {
                [String($0.0.id.prefix(12)), $0.0.started, $0.1, $0.2]
            }
            lines += TextTable.lines(["ID", "TIME (UTC)", "", "WHY"], rows).map { "  " + $0 }
        }
        let count = forgotten.count
        lines.append(
            "\(count) snapshot\(count == 1 ? "" : "s") \(dryRun ? "would be forgotten" : "forgotten")"
                + (count > 0 && !dryRun ? "; reforge prune \(repository) frees their space" : ""))
        return lines
    }
}
