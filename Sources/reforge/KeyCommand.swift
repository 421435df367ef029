// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import ImageModel
import JobModel
import LinuxSystem
import Operations

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

    private struct NewPassword: PasswordSource {
        let file: String?
        var isGiven: Bool { file != nil }
        var otherSource: String { "--new-password-file" }

        func password(for purpose: String, confirming: Bool, cancellation: Cancellation) throws -> [UInt8] {
            try file.map(KeyOptions.read)
                ?? KeyOptions.ask(
                    "new password for \(purpose)", confirming: confirming, advice: "give --new-password-file FILE",
                    cancellation: cancellation)
        }
    }

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "add", abstract: "Adds a password. Needs one that already opens the repository.")
        @Argument(help: "The repository.") var repository: String
        @OptionGroup var keyOptions: KeyOptions
        @Option(help: ArgumentHelp("A file with the new password (default: ask on the terminal).", valueName: "file"))
        var newPasswordFile: String?
        @Option(help: "A label for the password (default: USER@HOST).") var label: String?

        func run() throws {
            try CommandRun.run(json: false) { cancellation in
                let operation = RepositoryKeysOperation(repository, events: Console.events, cancellation: cancellation)
                let key = try operation.add(
                    NewPassword(file: newPasswordFile), label: label, openedBy: keyOptions)
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
            try CommandRun.run(json: false) { cancellation in
                let operation = RepositoryKeysOperation(repository, events: Console.events, cancellation: cancellation)
                let removed = try operation.remove(id, openedBy: keyOptions)
                try Console.result("removed key \(removed) from \(repository)")
                Console.message(
                    "a copy of that key file and its password still decrypt any data copied from the repository: "
                        + "to prevent that, copy the snapshots to a new repository (init-repo --encrypt, copy)"
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

        func run() throws {
            try CommandRun.run(json: json) { cancellation in
                let operation = RepositoryKeysOperation(repository, events: Console.events, cancellation: cancellation)
                let findings = try operation.list()
                let rows = findings.keys.map { [$0.id, $0.created, $0.label] }
                try Console.result(findings, json: json, lines: TextTable.lines(["ID", "CREATED", "LABEL"], rows))
                if !json { for key in findings.unusable { Console.message("warning: \(key.error)") } }
                return findings.outcome.status
            }
        }
    }
}
