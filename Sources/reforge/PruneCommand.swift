// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import DiskModel
import JobModel
import Operations

struct PruneCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune", abstract: "Frees the space of data that no snapshot needs, in two steps.",
        discussion: """
            Data that no snapshot needs is marked first, and deleted by a prune at least the time of --grace later, so \
            that a capture in between, or a reader that cannot lock, loses nothing. Prune refuses to run while \
            snapshots are missing that were never forgotten: they may be on a disk that is not mounted.

            Examples:

              reforge prune repo --dry-run
              reforge prune repo

            JSON fields: schema (1), dryRun, snapshots, neededByteCount, and {packs, byteCount} each for present, \
            removed, waiting, newlyMarked, unmarked, repacked, adopted; copiedByteCount, missingCount, notes.
            """)

    @Argument(help: "The repository.") var repository: String
    @Flag(help: "Print what would be freed, and change nothing.") var dryRun = false
    @Option(help: "How long marked data stays: a number with s, m, h or d.") var grace = Duration(
        seconds: 24 * 3600)
    @Option(
        help: ArgumentHelp(
            "Run although this number of snapshots is missing that were never forgotten (0: although there is none at all).",
            valueName: "n"))
    var confirmMissingSnapshots: Int?
    @OptionGroup var options: RepositoryOptions

    /// A number with the unit s, m, h or d.
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
        var job = PruneJob(repository: repository)
        (job.grace, job.confirmedMissing, job.dryRun) = (grace.seconds, confirmMissingSnapshots, dryRun)
        try CommandRun.run(json: options.json) { cancellation in
            let findings = try PruneOperation(job, keys: options.keys(cancellation), events: Console.events).run()
            if !options.json { for note in findings.notes { Console.message(note) } }
            try Console.result(findings, json: options.json, lines: findings.lines(repository))
            return findings.outcome.status
        }
    }
}

extension PruneOperation.Findings.Amount {
    fileprivate var text: String { "\(ByteText.rounded(byteCount)) in \(packs) pack\(packs == 1 ? "" : "s")" }
}

extension PruneOperation.Findings {
    fileprivate func lines(_ repository: String) -> [String] {
        var lines = [
            "\(snapshots) snapshots need \(ByteText.rounded(neededByteCount)) of \(present.text)",
            "\(dryRun ? "would free" : "freed") \(removed.text)",
        ]
        if waiting.packs > 0 {
            lines.append(
                "\(waiting.text) \(waiting.packs == 1 ? "is" : "are") marked, to be freed by a prune after the time of grace "
                    + "(\(newlyMarked.text) of it marked now)")
        }
        if repacked.packs > 0 {
            lines.append(
                "\(ByteText.rounded(copiedByteCount)) of needed data were copied out of \(repacked.packs) half-empty packs"
            )
        }
        if adopted.packs > 0 { lines.append("found without an index, and indexed again: \(adopted.text)") }
        if missingCount > 0 {
            lines.append(
                "\(missingCount) contents that snapshots need are missing: reforge verify \(repository) names them")
        }
        return lines
    }
}
