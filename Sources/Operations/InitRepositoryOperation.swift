// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import JobModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage

/// Creates a repository.
package final class InitRepositoryOperation {
    private let job: InitRepositoryJob
    private let keys: KeyRing
    private let likeKeys: KeyRing
    private let events: any EventSink

    /// The created repository.
    package struct Made {
        package var path: String
        package var isEncrypted: Bool
        package var chunkByteCount: Int
    }

    /// The default length of a chunk in bytes.
    private static let usualChunkByteCount = 1 << 20

    /// - Parameters:
    ///   - keys: asks for the password of the new repository.
    ///   - likeKeys: the passwords of the repository whose id key is taken.
    package init(_ job: InitRepositoryJob, keys: KeyRing, likeKeys: KeyRing, events: any EventSink) {
        self.job = job
        self.keys = keys
        self.likeKeys = likeKeys
        self.events = events
    }

    /// Creates the repository. The password is asked for before the first write.
    /// - Throws: `JobFailure` or an error of the engines.
    package func run() throws -> Made {
        try events.reporting("init-repo", keys.cancellation, outcome: { _ in Outcome(.done) }) {
            let path = try newAddress()
            var made = Made(
                path: path, isEncrypted: job.encrypts,
                chunkByteCount: job.chunkByteCount ?? Self.usualChunkByteCount)
            var master = job.encrypts ? MasterKeys.random() : nil
            if let like = job.like { try take(from: like, &made.chunkByteCount, &master) }
            let password = try master.map { _ in try keys.newPassword("the new repository \(path)") }
            try create(made, master, password)
            return made
        }
    }

    private func newAddress() throws -> String {
        // An address with a snapshot's name behind it is none of a repository.
        if !Stores.isFolder(job.repository) { return try OpenedRepository.address(job.repository) }
        return Stores.normalized(job.repository.hasSuffix("@") ? String(job.repository.dropLast()) : job.repository)
    }

    /// Takes chunk size and id key, so that snapshots that are copied between both deduplicate.
    private func take(from like: String, _ chunkByteCount: inout Int, _ master: inout MasterKeys?) throws {
        let other = try Stores.open(try OpenedRepository.address(like), cancellation: likeKeys.cancellation)
        let configuration = try Repository.configuration(in: other)
        chunkByteCount = configuration.chunkByteCount
        guard configuration.isEncrypted == job.encrypts else {
            throw JobFailure(
                .usage,
                configuration.isEncrypted
                    ? "\(like) is encrypted, and its id key must stay secret: add --encrypt"
                    : "\(like) is not encrypted, so it has no id key to take: leave out --encrypt or --like")
        }
        if job.encrypts, let id = try likeKeys.keys(other)?.id { master?.id = id }
    }

    private func create(_ made: Made, _ master: MasterKeys?, _ password: [UInt8]?) throws {
        let store = try Stores.open(made.path, cancellation: keys.cancellation)
        do {
            _ = try Repository.create(in: store, chunkByteCount: made.chunkByteCount, keys: master) {
                guard let master, let password else { return }
                _ = try KeyStore(store).add(master, password: password, label: SystemFacts.userAtHost)
            }
        } catch {
            // An error of a password keeps its own exit code.
            if case ImageError.key = error { throw error }
            throw JobFailure(.cannotCreate, "\(error)")
        }
    }
}
