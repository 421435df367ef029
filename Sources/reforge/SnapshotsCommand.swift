// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import ObjectStore
import Operations
import Repository
import SystemPackage

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
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var keyOptions: KeyOptions

    private struct Report: Encodable {
        struct Item: Encodable {
            var id: String
            var host: String
            var disk: String
            var started: String
            var ended: String
            var usedByteCount: UInt64
            var addedByteCount: UInt64
            var tags: [String]
        }
        struct Damaged: Encodable {
            var name: String
            var error: String
        }
        var schema = 1
        var repository: String
        var snapshots: [Item]
        var damaged: [Damaged]
    }

    func run() throws {
        try CommandRun.run(json: json) {
            let path = try OpenedRepository.path(repository)
            let (whole, damaged) = try OpenedRepository.open(path, KeyRing(keyOptions, Console.events)).snapshotInfos()
            let shown = whole.filter { info in
                (host ?? info.host) == info.host && (tag.map(info.tags.contains) ?? true)
            }
            if json {
                try Console.json(
                    Report(
                        repository: path.string,
                        snapshots: shown.map {
                            .init(
                                id: $0.id.description, host: $0.host, disk: $0.disk, started: $0.started,
                                ended: $0.ended, usedByteCount: $0.usedByteCount,
                                addedByteCount: $0.addedByteCount, tags: $0.tags)
                        }, damaged: damaged.map { .init(name: $0.name, error: "\($0.error)") }))
            } else if shown.isEmpty, damaged.isEmpty {
                Console.message(
                    "no snapshots\(host == nil && tag == nil ? "" : " like that"); make one with: reforge capture DISK \(path)@"
                )
            } else {
                let rows = shown.map {
                    [
                        String($0.id.description.prefix(12)), $0.host, $0.disk, $0.started,
                        ByteText.rounded($0.usedByteCount), ByteText.rounded($0.addedByteCount),
                        $0.tags.joined(separator: ","),
                    ]
                }
                try Console.result(
                    TextTable.lines(["ID", "HOST", "DISK", "TIME (UTC)", "USED", "ADDED", "TAGS"], rows).joined(
                        separator: "\n"))
            }
            for one in damaged { Console.message("damaged: \(one.name): \(one.error)") }
            return damaged.isEmpty ? .done : .badImage
        }
    }
}
