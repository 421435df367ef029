// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import DiskModel
import JobModel
import Operations

struct SnapshotsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshots",
        abstract: "Lists the snapshots of a repository, oldest first, and which of them are proven to start.",
        discussion: """
            Examples:

              reforge snapshots /mnt/backup/repo
              reforge snapshots /mnt/backup/repo@latest --save-proof DIR

            JSON fields: schema (1), repository, snapshots [{id, host, disk, started, ended, usedByteCount, \
            addedByteCount, tags, proofs [{format, imageID, verdict (proven, started, not-proven), sign, made, \
            toolVersion, firmware, qemuVersion, seconds, screenshot {byteCount, hash}, serialLog {byteCount, hash}}]}], \
            damaged [{name, error}]; with --save-proof: schema (1), snapshot, proof, files.
            """)

    @Argument(help: "The repository; with --save-proof, a snapshot (REPO@ID, REPO@latest).") var repository: String
    @Option(help: "Only snapshots of this host.") var host: String?
    @Option(help: "Only snapshots with this tag.") var tag: String?
    @Option(
        help: ArgumentHelp(
            "Save the last proof of this snapshot in a folder: verdict.json, screen.png, serial.log.",
            valueName: "DIR")) var saveProof: String?
    @OptionGroup var options: RepositoryOptions

    func validate() throws {
        if saveProof != nil, host != nil || tag != nil {
            throw ValidationError("--save-proof excludes --host and --tag: REPO@ID names the snapshot")
        }
    }

    func run() throws {
        var job = SnapshotsJob(repository: repository)
        (job.host, job.tag) = (host, tag)
        try CommandRun.run(json: options.json) { cancellation in
            let operation = SnapshotsOperation(job, keys: options.keys(cancellation), events: Console.events)
            if let saveProof {
                let saved = try operation.saveProof(in: saveProof)
                try Console.result(saved, json: options.json, lines: [saved.proof.line] + saved.files)
                return .done
            }
            let findings = try operation.run()
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
                $0.proofs.last?.cell ?? "",
            ]
        }
        return TextTable.lines(["ID", "HOST", "DISK", "TIME (UTC)", "USED", "ADDED", "TAGS", "PROOF"], rows)
    }
}
