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

struct InitRepoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init-repo",
        abstract: "Makes a repository: a folder that stores many snapshots in little more space than their changes.",
        discussion: """
            Examples:

              reforge init-repo /mnt/backup/repo
              reforge init-repo /mnt/backup/repo --encrypt --password-file /root/repo-password
              reforge capture /dev/sda /mnt/backup/repo@

            An encrypted repository cannot be read without a password: keep a copy of the password in another place. \
            --like takes chunk size and id key from another repository, so that snapshots copied between them \
            deduplicate.
            """)

    @Argument(help: "The folder to make (an empty one may exist).") var repository: String
    @Flag(help: "Encrypt everything (AES-256-GCM); asks for a password.") var encrypt = false
    @Option(help: "The chunk length: a power of two from 64K to 64M (default 1M).") var chunkSize: ByteSize?
    @Option(help: ArgumentHelp("Take chunk size and id key from this repository.", valueName: "repo2")) var like:
        String?
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
                let configuration = try Repository.configuration(in: LocalStore(other))
                chunkByteCount = configuration.chunkByteCount
                guard configuration.isEncrypted == encrypt else {
                    throw JobFailure(
                        .usage,
                        configuration.isEncrypted
                            ? "\(like) is encrypted, and its id key must stay secret: say --encrypt too"
                            : "\(like) is not encrypted, so it has no id key to take: leave out --encrypt or --like")
                }
                if encrypt {
                    var options = keyOptions
                    if let likePasswordFile { options.passwordFile = likePasswordFile }
                    if let id = try KeyRing(options, Console.events).keys(other)?.id { keys?.id = id }
                }
            }
            let password = try keys.map { _ in
                try keyOptions.password(for: "the new repository \(path)", confirming: true)
            }
            let store = LocalStore(path)
            do {
                _ = try Repository.create(in: store, chunkByteCount: chunkByteCount, keys: keys) {
                    guard let keys, let password else { return }
                    _ = try KeyStore(store).add(keys, password: password, label: SystemFacts.userAtHost)
                }
            } catch {
                // Only what could not be made is "cannot create"; a wrong password is not.
                if case ImageError.key = error { throw error }
                throw JobFailure(.cannotCreate, "\(error)")
            }
            try Console.result(
                "made the repository \(path): \(encrypt ? "encrypted, " : "")chunks of \(ByteText.exact(UInt64(chunkByteCount)))"
            )
            Console.message("capture into it with: reforge capture DISK \(path)@")
            return .done
        }
    }
}
