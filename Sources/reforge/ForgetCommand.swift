// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import DiskModel
import JobModel
import LinuxSystem
import Operations
import Repository
import SystemPackage

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
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var keyOptions: KeyOptions

    func validate() throws {
        let counts = [keepLast, keepDaily, keepWeekly, keepMonthly, keepYearly]
        guard counts.allSatisfy({ $0 >= 0 }) else { throw ValidationError("a number to keep cannot be negative") }
        guard counts.contains(where: { $0 > 0 }) else {
            throw ValidationError("nothing says what to keep: give at least one --keep-… with a number")
        }
    }

    func run() throws {
        try CommandRun.run(json: json) {
            let opened = try OpenedRepository.open(
                try OpenedRepository.path(repository), KeyRing(keyOptions, Console.events))
            let report = try opened.forget(
                policy: RetentionPolicy(
                    keepLast: keepLast, daily: keepDaily, weekly: keepWeekly, monthly: keepMonthly, yearly: keepYearly),
                host: host, tag: tag, dryRun: dryRun, note: Console.message)
            try show(report)
            return report.damaged.isEmpty ? .done : .badImage
        }
    }

    private struct Report: Encodable {
        struct Item: Encodable {
            var id: String
            var host: String
            var disk: String
            var started: String
            var tags: [String]
            var reasons: [String]?

            init(_ info: SnapshotInfo, _ reasons: [String]? = nil) {
                id = info.id.description
                host = info.host
                disk = info.disk
                started = info.started
                tags = info.tags
                self.reasons = reasons
            }
        }
        var schema = 1
        var dryRun: Bool
        var kept: [Item]
        var forgotten: [Item]
        var damaged: [String]
    }

    private func show(_ report: ForgetReport) throws {
        for one in report.damaged { Console.message("damaged, and left alone: \(one)") }
        if json {
            return try Console.json(
                Report(
                    dryRun: dryRun,
                    kept: report.groups.flatMap { $0.kept.map { .init($0.snapshot, $0.reasons) } },
                    forgotten: report.forgotten.map { .init($0) }, damaged: report.damaged))
        }
        var lines: [String] = []
        for group in report.groups {
            lines.append(
                "\(group.host)/\(group.disk)\(group.tags.isEmpty ? "" : " [\(group.tags.joined(separator: ","))]"):")
            let kept = group.kept.map { ($0.snapshot, "keep", $0.reasons.joined(separator: ", ")) }
            let gone = group.forgotten.map { ($0, dryRun ? "would forget" : "forgotten", "") }
            let rows = (kept + gone).sorted { $0.0.started < $1.0.started }.map {
                [String($0.0.id.description.prefix(12)), $0.0.started, $0.1, $0.2]
            }
            lines += TextTable.lines(["ID", "TIME (UTC)", "", "WHY"], rows).map { "  " + $0 }
        }
        let count = report.forgotten.count
        lines.append(
            "\(count) snapshot\(count == 1 ? "" : "s") \(dryRun ? "would be forgotten" : "forgotten")"
                + (count > 0 && !dryRun ? "; reforge prune \(repository) frees their space" : ""))
        try Console.result(lines.joined(separator: "\n"))
    }
}
