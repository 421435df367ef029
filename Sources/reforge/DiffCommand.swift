// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import DiskModel
import JobModel
import Operations

struct DiffCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff", abstract: "Shows how many bytes differ between two snapshots, by partition.",
        discussion: """
            Example:

              reforge diff repo@web1/latest repo@2026-11-01

            Both snapshots must be in one repository. Chunks are compared by id, so no data is read; one changed byte \
            counts as a whole chunk.

            JSON fields: schema (1), from, to, changedByteCount, partitions [{partition, label, changedByteCount, \
            addedByteCount, removedByteCount, usedThenByteCount, usedNowByteCount}].
            """)

    @Argument(help: "The older snapshot.") var from: String
    @Argument(help: "The newer snapshot.") var to: String
    @OptionGroup var options: RepositoryOptions

    func run() throws {
        try CommandRun.run(json: options.json) { cancellation in
            let operation = DiffOperation(
                DiffJob(from: from, to: to), keys: options.keys(cancellation), events: Console.events)
            let findings = try operation.run()
            try Console.result(findings, json: options.json, lines: findings.lines)
            return .done
        }
    }
}

extension DiffOperation.Findings {
    /// A row for each partition, and for changed data outside of partitions.
    fileprivate var lines: [String] {
        let rows = partitions.filter { $0.partition != nil || $0.changedByteCount > 0 }.map { part in
            [
                part.partition.map(String.init) ?? "-", part.label, ByteText.rounded(part.changedByteCount),
                ByteText.rounded(part.addedByteCount), ByteText.rounded(part.removedByteCount),
                ByteText.rounded(part.usedThenByteCount), ByteText.rounded(part.usedNowByteCount),
            ]
        }
        return ["\(from.prefix(12)) (\(started.from)) to \(to.prefix(12)) (\(started.to)):"]
            + TextTable.lines(["#", "HOLDS", "CHANGED", "ADDED", "REMOVED", "USED THEN", "USED NOW"], rows)
            + ["\(ByteText.rounded(changedByteCount)) changed in all"]
    }
}
