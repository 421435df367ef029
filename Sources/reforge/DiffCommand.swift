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

            Both snapshots must be in one repository. Chunks are compared by name, so no data is read; one changed \
            byte counts as a whole chunk.

            JSON fields: schema (1), from, to, changedByteCount, partitions [{partition, label, changedByteCount, \
            addedByteCount, removedByteCount, usedThenByteCount, usedNowByteCount}].
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
