// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import Codecs
import DiskModel
import ImageStore
import Imaging
import LinuxSystem
import SystemPackage

struct InitRepoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init-repo", abstract: "Makes a repository: a folder that holds many snapshots in little more than their changes.",
        discussion: """
            Examples:

              reforge init-repo /mnt/backup/repo
              reforge init-repo /mnt/backup/repo --encrypt --password-file /root/repo-password
              reforge capture /dev/sda /mnt/backup/repo@

            An encrypted repository cannot be read without a password: keep one where a fire does not reach it. --like takes \
            chunk size and id key from another repository, so that snapshots copied between them deduplicate.
            """)

    @Argument(help: "The folder to make (it may exist where it is empty).") var repository: String
    @Flag(help: "Encrypt everything (AES-256-GCM); asks for a password.") var encrypt = false
    @Option(help: "The length of a chunk: a power of two from 64K to 64M (default 1M).") var chunkSize: ByteSize?
    @Option(help: ArgumentHelp("Take chunk size and id key from this repository.", valueName: "repo2")) var like: String?
    @Option(help: ArgumentHelp("A file with the password of the repository of --like.", valueName: "file"))
    var likePasswordFile: String?
    @OptionGroup var keyOptions: KeyOptions

    func validate() throws {
        if let chunkSize {
            guard like == nil else { throw ValidationError("--chunk-size and --like exclude each other") }
            guard let count = Int(exactly: chunkSize.byteCount), Manifest.isValidChunkByteCount(count) else {
                throw ValidationError("--chunk-size takes a power of two from 64K to 64M")
            }
        }
    }

    func run() throws {
        try CommandRun.run(json: false) {
            let path = FilePath(repository.hasSuffix("@") ? String(repository.dropLast()) : repository)
            var chunkByteCount = chunkSize.map { Int($0.byteCount) } ?? 1 << 20
            var keys = encrypt ? MasterKeys.random() : nil
            if let like {
                let other = try OpenedRepository.path(like)
                let configuration = try Repository.configuration(at: other)
                chunkByteCount = configuration.chunkByteCount
                guard configuration.isEncrypted == encrypt else {
                    throw CommandFailure(
                        .usage,
                        configuration.isEncrypted
                            ? "\(like) is encrypted, and its id key must stay secret: say --encrypt too"
                            : "\(like) is not encrypted, so it has no id key to take: leave out --encrypt or --like")
                }
                if encrypt {
                    var options = keyOptions
                    if let likePasswordFile { options.passwordFile = likePasswordFile }
                    if let id = try KeyRing(options).keys(other)?.id { keys?.id = id }
                }
            }
            let password = try keys.map { _ in
                try keyOptions.passwordBytes(confirming: true, purpose: "the new repository \(path)")
            }
            do {
                _ = try Repository.create(at: path, chunkByteCount: chunkByteCount, keys: keys) { folder throws(ImageError) in
                    guard let keys, let password else { return }
                    _ = try KeyStore(folder).add(keys, password: password, label: SystemFacts.userAtHost)
                }
            } catch {
                // Only what could not be made is "cannot create"; a wrong password is not.
                if case .key = error { throw error }
                throw CommandFailure(.cannotCreate, "\(error)")
            }
            try Console.result(
                "made the repository \(path): \(encrypt ? "encrypted, " : "")chunks of \(ByteText.exact(UInt64(chunkByteCount)))")
            Console.message("capture into it with: reforge capture DISK \(path)@")
            return .done
        }
    }
}

struct SnapshotsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshots", abstract: "Lists the snapshots of a repository, oldest first.",
        discussion: """
            Example:

              reforge snapshots /mnt/backup/repo

            JSON fields: schema (1), repository, snapshots [{id, host, disk, started, ended, usedByteCount, addedByteCount, tags, \
            unreadableByteCount, note}], damaged [{name, error}].
            """)

    @Argument(help: "The repository.") var repository: String
    @Option(help: "Only those of this host.") var host: String?
    @Option(help: "Only those with this tag.") var tag: String?
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
            var unreadableByteCount: UInt64
            var note: String
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
            let (opened, _) = try OpenedRepository.open(path, KeyRing(keyOptions), .list)
            let (whole, damaged) = opened.snapshots()
            let shown = whole.filter { snapshot in
                (host ?? snapshot.info.host) == snapshot.info.host && (tag.map(snapshot.info.tags.contains) ?? true)
            }
            if json {
                try Console.json(
                    Report(
                        repository: path.string,
                        snapshots: shown.map {
                            .init(
                                id: $0.info.id.description, host: $0.info.host, disk: $0.info.disk, started: $0.info.started,
                                ended: $0.info.ended, usedByteCount: $0.info.usedByteCount,
                                addedByteCount: $0.info.addedByteCount, tags: $0.info.tags,
                                unreadableByteCount: $0.lateFacts.unreadable.reduce(0) { $0 + $1.byteCount },
                                note: $0.manifest.note)
                        }, damaged: damaged.map { .init(name: $0.name, error: "\($0.error)") }))
            } else if shown.isEmpty, damaged.isEmpty {
                Console.message("no snapshots\(host == nil && tag == nil ? "" : " like that"); make one with: reforge capture DISK \(path)@")
            } else {
                let rows = shown.map {
                    [
                        String($0.info.id.description.prefix(12)), $0.info.host, $0.info.disk, $0.info.started,
                        ByteText.rounded($0.info.usedByteCount), ByteText.rounded($0.info.addedByteCount),
                        $0.info.tags.joined(separator: ","), $0.lateFacts.unreadable.isEmpty ? "" : "has unreadable ranges",
                    ]
                }
                try Console.result(
                    TextTable.lines(["ID", "HOST", "DISK", "TIME (UTC)", "USED", "ADDED", "TAGS", ""], rows).joined(
                        separator: "\n"))
            }
            for one in damaged { Console.message("damaged: \(one.name): \(one.error)") }
            return damaged.isEmpty ? .done : .badImage
        }
    }
}

struct DiffCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff", abstract: "Shows how many bytes differ between two snapshots, by partition.",
        discussion: """
            Example:

              reforge diff repo@web1/latest repo@2026-11-01

            Both snapshots are of one repository. Chunks are compared by name, so no data is read.
            """)

    @Argument(help: "The older snapshot.") var from: String
    @Argument(help: "The newer snapshot.") var to: String
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var keyOptions: KeyOptions

    func run() throws {
        try CommandRun.run(json: json) {
            guard let first = try SnapshotSelector.parse(from), let second = try SnapshotSelector.parse(to) else {
                throw CommandFailure(.usage, "diff takes two snapshots: REPO@\(SnapshotSelector.forms)")
            }
            guard Files.realPath(first.repository) == Files.realPath(second.repository) else {
                throw CommandFailure(
                    .usage, "both snapshots must be in one repository: copy one over first (reforge copy)")
            }
            let (repository, _) = try OpenedRepository.open(first.repository, KeyRing(keyOptions), .list)
            let difference = try repository.diff(
                try OpenedRepository.find(first, in: repository), try OpenedRepository.find(second, in: repository))
            if json { try Console.json(difference) } else { try Console.result(difference.text) }
            return .done
        }
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
            let (opened, lock) = try OpenedRepository.open(
                try OpenedRepository.path(repository), KeyRing(keyOptions), .forget)
            defer { lock.release() }
            let report = try opened.forget(
                policy: RetentionPolicy(
                    keepLast: keepLast, daily: keepDaily, weekly: keepWeekly, monthly: keepMonthly, yearly: keepYearly),
                host: host, tag: tag, dryRun: dryRun)
            if json { try Console.json(report) } else { try Console.result(report.text) }
            return .done
        }
    }
}

struct PruneCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune", abstract: "Frees the space of what no snapshot needs any more, in two steps.",
        discussion: """
            What nobody needs is marked first, and deleted by a prune that runs at least the time of --grace later: a capture that \
            runs meanwhile, or a reader that cannot lock, loses nothing.

            Examples:

              reforge prune repo --dry-run
              reforge prune repo
            """)

    @Argument(help: "The repository.") var repository: String
    @Flag(help: "Say what would be freed, and change nothing.") var dryRun = false
    @Option(help: "How long what was marked stays: a number with s, m, h or d.") var grace = Duration(seconds: 24 * 3600)
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

    func run() throws {
        try CommandRun.run(json: json) {
            let (opened, lock) = try OpenedRepository.open(
                try OpenedRepository.path(repository), KeyRing(keyOptions), dryRun ? .list : .prune, waiting: 30)
            defer { lock.release() }
            let report = try opened.prune(grace: grace.seconds, dryRun: dryRun) { Console.message($0) }
            if json { try Console.json(report) } else { try Console.result(report.text) }
            return .done
        }
    }
}
