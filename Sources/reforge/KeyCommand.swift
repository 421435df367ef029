// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import ImageModel
import JobModel
import LinuxSystem
import ObjectStore
import Operations
import Repository
import SystemPackage

/// The passwords of an encrypted repository.
struct KeyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "key", abstract: "Adds, removes and lists the passwords of an encrypted repository.",
        discussion: """
            Each password has its own key file in the repository, and opens the whole repository.

              reforge key list /mnt/backup/repo
              reforge key add /mnt/backup/repo --new-password-file second
              reforge key remove /mnt/backup/repo 3f9c

            A removed password no longer opens the repository, but together with a kept copy of its key file it still \
            decrypts any data copied from the repository. To prevent that, copy the snapshots to a new repository.
            """,
        subcommands: [Add.self, Remove.self, List.self])

    /// The keys of `REPO` (or `REPO@`, as other commands write it). What is wrong with it is said before anybody types
    /// a password.
    static func store(_ repository: String) throws -> KeyStore {
        let path = try OpenedRepository.path(repository)
        guard try Repository.configuration(in: LocalStore(path)).isEncrypted else {
            throw JobFailure(.refused, "\(path) is not encrypted: it has no passwords")
        }
        return KeyStore(LocalStore(path))
    }

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "add", abstract: "Adds a password. Needs one that opens the repository already.")
        @Argument(help: "The repository.") var repository: String
        @OptionGroup var keyOptions: KeyOptions
        @Option(help: ArgumentHelp("A file with the new password (default: ask on the terminal).", valueName: "file"))
        var newPasswordFile: String?
        @Option(help: "A label for the password (default: USER@HOST).") var label: String?

        func run() throws {
            try CommandRun.run(json: false) {
                let store = try KeyCommand.store(repository)
                let keys = try store.unlock(password: try keyOptions.password(for: repository, confirming: false))
                let password =
                    try newPasswordFile.map(KeyOptions.read)
                    ?? KeyOptions.ask(
                        "new password for \(repository)", confirming: true, advice: "give --new-password-file FILE")
                let key = try store.add(keys, password: password, label: label ?? SystemFacts.userAtHost)
                try Console.result("added key \(key.id) (\(key.label)) to \(repository)")
                return .done
            }
        }
    }

    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "remove",
            abstract:
                "Removes a password by the id of its key. Needs a password that stays, to prevent a lockout.")
        @Argument(help: "The repository.") var repository: String
        @Argument(help: "The id of the key (see list), or a unique beginning of it.") var id: String
        @OptionGroup var keyOptions: KeyOptions

        func run() throws {
            try CommandRun.run(json: false) {
                let store = try KeyCommand.store(repository)
                let removed = try store.remove(
                    id, password: try keyOptions.password(for: "\(repository) (one that stays)", confirming: false))
                try Console.result("removed key \(removed) from \(repository)")
                Console.message(
                    "whoever kept a copy of that key file and knows its password can still read what they can copy of the "
                        + "repository: to shut them out, copy the snapshots to a new repository (init-repo --encrypt, copy)"
                )
                return .done
            }
        }
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "Lists the keys. Needs no password.",
            discussion: """
                JSON fields: schema (1), keys [{id, label, created, masterID, scrypt {rounds, blockSize, \
                parallelism}}], unusable [{path, error}].
                """)
        @Argument(help: "The repository.") var repository: String
        @Flag(help: "Print one JSON object.") var json = false

        private struct Report: Encodable {
            struct Key: Encodable {
                var id: String
                var label: String
                var created: String
                var masterID: String
                var scrypt: PasswordCost
            }
            struct Unusable: Encodable {
                var path: String
                var error: String
            }
            var schema = 1
            var keys: [Key]
            var unusable: [Unusable]
        }

        func run() throws {
            try CommandRun.run(json: json) {
                let (keys, unusable) = try KeyCommand.store(repository).list()
                if json {
                    try Console.json(
                        Report(
                            keys: keys.map {
                                .init(
                                    id: $0.id, label: $0.label, created: $0.created, masterID: $0.masterID,
                                    scrypt: $0.scrypt)
                            },
                            unusable: unusable.map { .init(path: $0.name, error: "\($0.error)") }))
                } else {
                    let lines = TextTable.lines(
                        ["ID", "CREATED", "LABEL"], keys.map { [$0.id, $0.created, $0.label] })
                    try Console.result(lines.joined(separator: "\n"))
                    for key in unusable { Console.message("warning: \(key.error)") }
                }
                // A key that cannot be used is damage: a script must not take it for a sound repository.
                return unusable.isEmpty ? .done : .badImage
            }
        }
    }
}
