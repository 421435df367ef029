// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import DiskModel
import JobModel
import LinuxSystem
import Operations
import Repository
import SystemPackage

struct PruneCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune", abstract: "Frees the space of data that no snapshot needs, in two steps.",
        discussion: """
            Data that no snapshot needs is marked first, and deleted by a prune that runs at least the time of --grace \
            later, so that a capture in between, or a reader that cannot lock, loses nothing. Prune refuses to run \
            while snapshots are missing that were never forgotten: they may be on a disk that is not mounted.

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
