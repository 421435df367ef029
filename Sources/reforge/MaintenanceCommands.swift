// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import DiskModel
import JobModel
import LinuxSystem
import Operations
import Repository
import SystemPackage

struct DiffCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff", abstract: "Shows how many bytes differ between two snapshots, by partition.",
        discussion: """
            Example:

              reforge diff repo@web1/latest repo@2026-11-01

            Both snapshots are of one repository. Chunks are compared by name, so no data is read; one changed byte counts as its chunk.

            JSON fields: schema (1), from, to, changedByteCount, partitions [{partition, label, changedByteCount, addedByteCount, \
            removedByteCount, usedThenByteCount, usedNowByteCount}].
            """)

    @Argument(help: "The older snapshot.") var from: String
    @Argument(help: "The newer snapshot.") var to: String
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var keyOptions: KeyOptions

    func run() throws {
        try CommandRun.run(json: json) {
            guard case .snapshot(let first) = try ImageAddress.parse(from, .thisMachine),
                case .snapshot(let second) = try ImageAddress.parse(to, .thisMachine)
            else {
                throw JobFailure(.usage, "diff takes two snapshots: REPO@\(SnapshotAddress.forms)")
            }
            guard Files.realPath(FilePath(first.repository)) == Files.realPath(FilePath(second.repository)) else {
                throw JobFailure(
                    .usage, "both snapshots must be in one repository: copy one over first (reforge copy)")
            }
            let (repository, lock) = try OpenedRepository.open(
                FilePath(first.repository), KeyRing(keyOptions, Console.events), .restore)
            defer { lock.release() }
            let difference = try repository.diff(
                try OpenedRepository.find(first, in: repository, Console.events),
                try OpenedRepository.find(second, in: repository, Console.events))
            try show(difference)
            return .done
        }
    }

    private struct Report: Encodable {
        struct Part: Encodable {
            var partition: Int?
            var label: String
            var changedByteCount: UInt64
            var addedByteCount: UInt64
            var removedByteCount: UInt64
            var usedThenByteCount: UInt64
            var usedNowByteCount: UInt64
        }
        var schema = 1
        var from: String
        var to: String
        var changedByteCount: UInt64
        var partitions: [Part]
    }

    private func show(_ difference: SnapshotDiff) throws {
        if json {
            return try Console.json(
                Report(
                    from: difference.first.id.description, to: difference.second.id.description,
                    changedByteCount: difference.changedByteCount,
                    partitions: difference.regions.map {
                        .init(
                            partition: $0.partition, label: $0.label, changedByteCount: $0.changedByteCount,
                            addedByteCount: $0.addedByteCount, removedByteCount: $0.removedByteCount,
                            usedThenByteCount: $0.firstUsedByteCount, usedNowByteCount: $0.secondUsedByteCount)
                    }))
        }
        let (first, second) = (difference.first, difference.second)
        // What is outside of partitions is worth a line only where it has changed.
        let rows = difference.regions.filter { $0.partition != nil || $0.changedByteCount > 0 }.map { region in
            [
                region.partition.map(String.init) ?? "-", region.label, ByteText.rounded(region.changedByteCount),
                ByteText.rounded(region.addedByteCount), ByteText.rounded(region.removedByteCount),
                ByteText.rounded(region.firstUsedByteCount), ByteText.rounded(region.secondUsedByteCount),
            ]
        }
        let lines =
            [
                "\(first.id.description.prefix(12)) (\(first.started)) to \(second.id.description.prefix(12)) (\(second.started)):"
            ]
            + TextTable.lines(["#", "HOLDS", "CHANGED", "ADDED", "REMOVED", "USED THEN", "USED NOW"], rows)
            + ["\(ByteText.rounded(difference.changedByteCount)) changed in all"]
        try Console.result(lines.joined(separator: "\n"))
    }
}

struct ForgetCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "forget", abstract: "Removes snapshots by a retention policy. Prune frees their space.",
        discussion: """
            Counts are kept for each host, disk and set of tags, never across machines. A snapshot stays if any count keeps it.

            Examples:

              reforge forget repo --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run
              reforge forget repo --keep-last 3 --host web1 && reforge prune repo

            JSON fields: schema (1), dryRun, kept [{id, host, disk, started, tags, reasons}], forgotten [{id, host, disk, started, tags}], \
            damaged.
            """)

    @Argument(help: "The repository.") var repository: String
    @Option(help: "Keep the newest N.") var keepLast = 0
    @Option(help: "Keep the newest of each of the last N days that have one.") var keepDaily = 0
    @Option(help: "Keep the newest of each of the last N weeks that have one.") var keepWeekly = 0
    @Option(help: "Keep the newest of each of the last N months that have one.") var keepMonthly = 0
    @Option(help: "Keep the newest of each of the last N years that have one.") var keepYearly = 0
    @Option(help: "Only snapshots of this host.") var host: String?
    @Option(help: "Only snapshots with this tag.") var tag: String?
    @Flag(help: "Say what would be removed, and remove nothing.") var dryRun = false
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

struct PruneCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune", abstract: "Frees the space of what no snapshot needs any more, in two steps.",
        discussion: """
            What no snapshot needs is marked first, and deleted by a prune that runs at least the time of --grace later: a capture \
            that runs meanwhile, or a reader that cannot lock, loses nothing. Snapshots that are missing without having been \
            forgotten stop it: they may be on a disk that is not mounted.

            Examples:

              reforge prune repo --dry-run
              reforge prune repo

            JSON fields: schema (1), dryRun, snapshots, neededByteCount, and {packs, byteCount} each for present, removed, waiting, \
            newlyMarked, unmarked, repacked, adopted; copiedByteCount, missingCount, notes.
            """)

    @Argument(help: "The repository.") var repository: String
    @Flag(help: "Say what would be freed, and change nothing.") var dryRun = false
    @Option(help: "How long what was marked stays: a number with s, m, h or d.") var grace = Duration(
        seconds: 24 * 3600)
    @Option(
        help: ArgumentHelp(
            "Although so many snapshots are missing that were never forgotten (0: although there is none at all).",
            valueName: "n"))
    var confirmMissingSnapshots: Int?
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var keyOptions: KeyOptions

    /// A span of time as a person writes it.
    struct Duration: ExpressibleByArgument {
        var seconds: Double
        init(seconds: Double) { self.seconds = seconds }
        init?(argument: String) {
            let units: [Character: Double] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
            guard let last = argument.last, let unit = units[last], let number = UInt32(argument.dropLast()) else {
                return nil
            }
            seconds = Double(number) * unit
        }
        var defaultValueDescription: String { "\(Int(seconds / 3600))h" }
    }

    func validate() throws {
        guard confirmMissingSnapshots ?? 0 >= 0 else {
            throw ValidationError("--confirm-missing-snapshots takes a number, 0 or more")
        }
    }

    func run() throws {
        try CommandRun.run(json: json) {
            let opened = try OpenedRepository.open(
                try OpenedRepository.path(repository), KeyRing(keyOptions, Console.events))
            let report = try opened.prune(
                grace: grace.seconds, confirmedMissing: confirmMissingSnapshots, dryRun: dryRun, waiting: 30,
                note: Console.message)
            try show(report)
            // What a snapshot needs and nobody has is damage, whoever finds it.
            return report.missingCount == 0 ? .done : .badImage
        }
    }

    private struct Report: Encodable {
        struct Amount: Encodable {
            var packs: Int
            var byteCount: UInt64

            init(_ amount: PruneReport.Amount) {
                packs = amount.packCount
                byteCount = amount.byteCount
            }
        }
        var schema = 1
        var dryRun: Bool
        var snapshots: Int
        var neededByteCount: UInt64
        var present: Amount
        var removed: Amount
        var waiting: Amount
        var newlyMarked: Amount
        var unmarked: Amount
        var repacked: Amount
        var adopted: Amount
        var copiedByteCount: UInt64
        var missingCount: Int
        var notes: [String]
    }

    private func show(_ report: PruneReport) throws {
        if json {
            return try Console.json(
                Report(
                    dryRun: dryRun, snapshots: report.snapshotCount, neededByteCount: report.neededByteCount,
                    present: .init(report.present), removed: .init(report.removed), waiting: .init(report.waiting),
                    newlyMarked: .init(report.newlyMarked), unmarked: .init(report.unmarked),
                    repacked: .init(report.repacked), adopted: .init(report.adopted),
                    copiedByteCount: report.copiedByteCount, missingCount: report.missingCount, notes: report.notes))
        }
        for note in report.notes { Console.message(note) }
        func amount(_ amount: PruneReport.Amount) -> String {
            "\(ByteText.rounded(amount.byteCount)) in \(amount.packCount) pack\(amount.packCount == 1 ? "" : "s")"
        }
        var lines = [
            "\(report.snapshotCount) snapshots need \(ByteText.rounded(report.neededByteCount)) of \(amount(report.present))",
            "\(dryRun ? "would free" : "freed") \(amount(report.removed))",
        ]
        if report.waiting.packCount > 0 {
            lines.append(
                "\(amount(report.waiting)) \(report.waiting.packCount == 1 ? "is" : "are") marked, to be freed by a prune after the time of grace "
                    + "(\(amount(report.newlyMarked)) of it marked now)")
        }
        if report.repacked.packCount > 0 {
            lines.append(
                "\(ByteText.rounded(report.copiedByteCount)) that are needed were copied out of \(report.repacked.packCount) half-empty packs"
            )
        }
        if report.adopted.packCount > 0 { lines.append("found again, without an index: \(amount(report.adopted))") }
        if report.missingCount > 0 {
            lines.append(
                "\(report.missingCount) contents that snapshots need are missing: reforge verify \(repository) names them"
            )
        }
        try Console.result(lines.joined(separator: "\n"))
    }
}
