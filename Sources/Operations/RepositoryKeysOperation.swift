// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import JobModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage

/// Lists, adds and removes the passwords of an encrypted repository.
package final class RepositoryKeysOperation {
    private let repository: String
    private let events: any EventSink
    private let cancellation: Cancellation

    /// The keys of a repository.
    package struct Findings: Encodable {
        package struct Key: Encodable {
            package var id: String
            package var label: String
            package var created: String
            package var masterID: String
            package var scrypt: PasswordCost
        }
        package struct Unusable: Encodable {
            package var path: String
            package var error: String
        }
        package let schema = 1
        package var keys: [Key]
        package var unusable: [Unusable]

        /// An unusable key counts as damage, so that scripts detect it.
        package var outcome: Outcome { Outcome(unusable.isEmpty ? .done : .badImage) }
    }

    /// - Parameter repository: `REPO` or `REPO@`, as given.
    package init(_ repository: String, events: any EventSink, cancellation: Cancellation) {
        self.repository = repository
        self.events = events
        self.cancellation = cancellation
    }

    /// Lists the keys. Needs no password.
    package func list() throws -> Findings {
        try events.reporting("key list", cancellation, outcome: { $0.outcome }) {
            let (keys, unusable) = try store().list()
            return Findings(
                keys: keys.map {
                    Findings.Key(
                        id: $0.id, label: $0.label, created: $0.created, masterID: $0.masterID, scrypt: $0.scrypt)
                }, unusable: unusable.map { Findings.Unusable(path: $0.name, error: "\($0.error)") })
        }
    }

    /// Adds a password.
    /// - Parameters:
    ///   - newPasswords: supplies the new password, after the repository is open.
    ///   - label: the label of the key; `nil` for the current user and host.
    ///   - passwords: supplies a password that opens the repository.
    package func add(
        _ newPasswords: any PasswordSource, label: String?, openedBy passwords: any PasswordSource
    ) throws -> WrappedKey {
        try events.reporting("key add", cancellation, outcome: { _ in Outcome(.done) }) {
            let opened = try store()
            let keys = try opened.unlock(
                password: try passwords.password(for: repository, confirming: false, cancellation: cancellation))
            return try opened.add(
                keys,
                password: try newPasswords.password(for: repository, confirming: true, cancellation: cancellation),
                label: label ?? SystemFacts.userAtHost)
        }
    }

    /// Removes a password.
    /// - Parameters:
    ///   - id: the id of its key, or a unique beginning of it.
    ///   - passwords: supplies a password that stays.
    /// - Returns: the complete id.
    package func remove(_ id: String, openedBy passwords: any PasswordSource) throws -> String {
        try events.reporting("key remove", cancellation, outcome: { _ in Outcome(.done) }) {
            try store().remove(
                id,
                password: try passwords.password(
                    for: "\(repository) (one that stays)", confirming: false, cancellation: cancellation))
        }
    }

    /// The keys. Errors of the repository are reported before a password is asked for.
    private func store() throws -> KeyStore {
        let store = try Stores.open(try OpenedRepository.address(repository), cancellation: cancellation)
        guard try Repository.configuration(in: store).isEncrypted else {
            throw JobFailure(.refused, "\(store.name) is not encrypted: it has no passwords")
        }
        return KeyStore(store)
    }
}
