// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import DiskModel
import JobModel
import Operations

struct DiffCommand: MountingCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff", abstract: "Shows how many bytes, or which files, differ between two snapshots.",
        discussion: """
            Example:

              reforge diff repo@web1/latest repo@2026-11-01

            Both snapshots must be in one repository. Chunks are compared by id, so no data is read; one changed byte \
            counts as a whole chunk.

            With --files, files are compared, of any two images, snapshots or disks: added (A), removed (D) and changed \
            (M), as in `reforge files`. A file of equal length and time counts as equal.

              reforge diff --files repo@web1/2026-11-01 repo@web1/latest

            JSON fields with --files: schema (1), changes [{change, volume, path, what, byteCountThen, byteCountNow}], \
            notes, comparedVolumes, problemCount, problems [{path, why, cause}].

            JSON fields: schema (1), from, to, changedByteCount, partitions [{partition, label, changedByteCount, \
            addedByteCount, removedByteCount, usedThenByteCount, usedNowByteCount}].
            """)

    @Argument(help: "The older snapshot.") var from: String
    @Argument(help: "The newer snapshot.") var to: String
    @Flag(help: "Compare files.") var files = false
    @OptionGroup var appliance: ApplianceOptions
    @OptionGroup var backingOptions: BackingOptions
    @OptionGroup var options: RepositoryOptions

    func run() throws {
        if files { return try runFiles() }
        try CommandRun.run(json: options.json) { cancellation in
            let operation = DiffOperation(
                DiffJob(from: from, to: to), keys: options.keys(cancellation), events: Console.events)
            let findings = try operation.run()
            try Console.result(findings, json: options.json, lines: findings.lines)
            return .done
        }
    }

    private func runFiles() throws {
        var job = FilesDiffJob(from: from, to: to)
        job.appliance = appliance.choice
        job.allowsBacking = backingOptions.allowBacking
        try CommandRun.run(json: options.json) { cancellation in
            let findings = try FilesDiffOperation(job, keys: options.keys(cancellation), events: Console.events).run()
            try Console.result(findings, json: options.json, lines: findings.lines)
            return findings.outcome.status
        }
    }
}

extension FilesDiffOperation.Findings {
    fileprivate var lines: [String] {
        let letters: [Change.Kind: String] = [.added: "A", .removed: "D", .changed: "M"]
        let rows = changes.map { change in
            "\(letters[change.change] ?? "?") \(change.path)"
                + (change.what.isEmpty ? "" : " (\(change.what.joined(separator: ", ")))")
        }
        let counts = [Change.Kind.added, .removed, .changed].map { kind in
            "\(changes.filter { $0.change == kind }.count) \(kind.rawValue)"
        }
        return notes + rows + ["\(counts.joined(separator: ", ")) in \(comparedVolumes.count) volumes"]
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
