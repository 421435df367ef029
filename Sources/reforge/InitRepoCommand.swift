// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import DiskModel
import JobModel
import Operations

struct InitRepoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init-repo",
        abstract: "Creates a repository: a folder that stores many snapshots in little more space than their changes.",
        discussion: """
            Examples:

              reforge init-repo /mnt/backup/repo
              reforge init-repo /mnt/backup/repo --encrypt --password-file /root/repo-password
              reforge capture /dev/sda /mnt/backup/repo@

            An encrypted repository cannot be read without a password: keep a copy of the password in another place. \
            --like takes chunk size and id key from another repository, so that snapshots copied between them \
            deduplicate.
            """)

    @Argument(help: "The folder to create (an empty one may exist).") var repository: String
    @Flag(help: "Encrypt everything (AES-256-GCM); asks for a password.") var encrypt = false
    @Option(help: "The chunk length: a power of two from 64K to 64M (default 1M).") var chunkSize: ByteSize?
    @Option(help: ArgumentHelp("Take chunk size and id key from this repository.", valueName: "repo2")) var like:
        String?
    @Option(help: ArgumentHelp("A file with the password of the repository of --like.", valueName: "file"))
    var likePasswordFile: String?
    @OptionGroup var keyOptions: KeyOptions

    func validate() throws {
        if chunkSize != nil, like != nil { throw ValidationError("--chunk-size and --like exclude each other") }
        _ = try chunkSize?.chunkByteCount()
    }

    func run() throws {
        try CommandRun.run(json: false) { cancellation in
            var job = InitRepositoryJob(repository: repository)
            (job.encrypts, job.like) = (encrypt, like)
            job.chunkByteCount = try chunkSize?.chunkByteCount()
            var likeOptions = keyOptions
            if let likePasswordFile { likeOptions.passwordFile = likePasswordFile }
            let made = try InitRepositoryOperation(
                job, keys: KeyRing(keyOptions, Console.events, cancellation),
                likeKeys: KeyRing(likeOptions, Console.events, cancellation),
                events: Console.events
            ).run()
            let chunk = ByteText.exact(UInt64(made.chunkByteCount))
            try Console.result(
                "made the repository \(made.path): \(made.isEncrypted ? "encrypted, " : "")chunks of \(chunk)")
            Console.message("capture into it with: reforge capture DISK \(made.path)@")
            return .done
        }
    }
}
