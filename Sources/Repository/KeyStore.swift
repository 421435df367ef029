// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore
import SystemPackage

/// The key files of an encrypted repository, `keys/ID.json`: each holds the master keys, sealed under a different
/// password.
package struct KeyStore: Sendable {
    private let store: StoreAccess
    /// The repository's name in messages.
    private var repository: String { store.name }
    /// The key folder's name in messages.
    private var folder: String { store.source.name(ofAll: .key) }

    /// A key file that cannot be used.
    package struct Unusable: Sendable {
        /// Its name among the keys.
        package var id: String
        /// The key file's name in messages.
        package var name: String
        /// Why.
        package var error: ImageError
    }

    /// The keys of the repository in this store.
    package init(_ store: any PrunableStore) { self.store = StoreAccess(store) }
    /// The keys of the repository in a read-only store: they can be listed and tried.
    package init(reading store: any ObjectSource) { self.store = StoreAccess(reading: store) }
    init(_ store: StoreAccess) { self.store = store }

    /// All key files, sorted by time and id.
    package func list() throws(ImageError) -> (keys: [WrappedKey], unusable: [Unusable]) {
        let names: [String]
        do { names = try store.names(.key) } catch {
            guard error.isMissingFile else { throw error }
            throw .missing("\(repository) has no keys: it is not an encrypted repository")
        }
        guard names.count <= WrappedKey.mostTogether else {
            throw .unsupported(
                name: folder, what: "\(names.count) key files, where \(WrappedKey.mostTogether) is the most")
        }
        var keys: [WrappedKey] = []
        var unusable: [Unusable] = []
        for name in names {
            let path = store.name(of: .key(name))
            do throws(ImageError) {
                let key = try read(name)
                guard name == key.id else {
                    throw .damaged(
                        name: path, what: "it is the key file \(key.id) under another name", fileOffset: 0,
                        disk: nil, partition: nil)
                }
                keys.append(key)
            } catch {
                unusable.append(Unusable(id: name, name: path, error: error))
            }
        }
        keys.sort { ($0.created, $0.id) < ($1.created, $1.id) }
        return (keys, unusable)
    }

    /// The master keys.
    /// - Throws: `ImageError.key` if no key file opens with this password.
    package func unlock(password: [UInt8]) throws(ImageError) -> MasterKeys {
        try unlock(password: password, except: nil)
    }

    private func unlock(password: [UInt8], except removed: String?) throws(ImageError) -> MasterKeys {
        let (keys, unusable) = try list()
        try refuseMixture(keys)
        var failure: ImageError?
        for key in keys where key.id != removed {
            // A key that needs more memory than this machine has must not hide the next one.
            do throws(ImageError) {
                if let open = try key.unwrap(password: password, name: store.name(of: .key(key.id))) { return open }
            } catch {
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
        if keys.isEmpty {
            if let first = unusable.first { throw first.error }
            throw .damaged(
                name: folder, what: "there is no key file in it", fileOffset: 0, disk: nil, partition: nil)
        }
        let rest = unusable.map { "; \($0.error)" }.joined()
        if let removed {
            throw .key(
                "the password opens no other key of \(repository) than \(removed): to remove that one, give the password of one that stays"
                    + rest)
        }
        throw .key("wrong password for \(repository)" + rest)
    }

    /// Key files with different master keys belong to different repositories: data written under the wrong keys could
    /// not be found again.
    private func refuseMixture(_ keys: [WrappedKey]) throws(ImageError) {
        guard Set(keys.map(\.masterID)).count > 1 else { return }
        let list = keys.map { "\($0.id) (\($0.label), \($0.created)) for \($0.masterID)" }.joined(separator: ", ")
        throw .ambiguous(
            "\(folder) holds key files of different repositories: \(list). Move those that do not belong to \(repository) away"
        )
    }

    /// Adds a key file, durably, and opens it once to verify it.
    /// - Parameter keys: the master keys, from `unlock` or new.
    @discardableResult
    package func add(
        _ keys: MasterKeys, password: [UInt8], label: String, cost: PasswordCost = .standard
    ) throws(ImageError) -> WrappedKey {
        let key = try WrappedKey.wrap(keys, password: password, label: label, cost: cost)
        let path = store.name(of: .key(key.id))
        let bytes = try key.bytes()
        let sink = try store.sink()
        do throws(SystemCallError) {
            // The first key of a new repository: no other process has a key in this folder.
            let isFirst = try sink.status(.configuration) == nil
            let lock = isFirst ? nil : try sink.lease(.key)
            defer { lock?.release() }
            let count = isFirst ? 0 : try sink.list(.key).count
            guard count < WrappedKey.mostTogether else {
                throw SystemCallError("add to the \(WrappedKey.mostTogether) key files in", folder, .tooManyLinks)
            }
            try sink.put(.key(key.id), bytes, .durable)
        } catch {
            throw .system(error)
        }
        do throws(ImageError) {
            guard let back = try read(key.id).unwrap(password: password, name: path),
                back.data.bytes == keys.data.bytes, back.id.bytes == keys.id.bytes
            else {
                throw .damaged(
                    name: path, what: "the key file does not open with its own password", fileOffset: 0,
                    disk: nil, partition: nil)
            }
        } catch {
            // An unverified key file must not remain.
            try? sink.remove(.key(key.id))
            throw error
        }
        return key
    }

    /// Removes a key file.
    ///
    /// A copy of the removed key file, together with its password, still opens the repository, and so do the master
    /// keys. Only a copy of the snapshots into a new repository revokes them.
    /// - Parameters:
    ///   - prefix: its id, or as much of it as is unique.
    ///   - password: password of a key file that remains: this prevents removing the last usable one.
    @discardableResult
    package func remove(_ prefix: String, password: [UInt8]) throws(ImageError) -> String {
        let prunable = try store.prunable()
        let lock: (any StoreLease)?
        do throws(SystemCallError) { lock = try prunable.lease(.key) } catch {
            if error.errno == .noSuchFileOrDirectory {
                throw .missing("\(repository) has no keys: it is not an encrypted repository")
            }
            throw .system(error)
        }
        defer { lock?.release() }
        // Concurrent removals wait here for each other: the second one sees the result of the first.
        let id = try find(prefix)
        guard try list().keys.contains(where: { $0.id != id }) else {
            throw .key(
                "\(id) is the last key of \(repository): without it nothing in it could be read. Add another first")
        }
        _ = try unlock(password: password, except: id)
        do throws(SystemCallError) {
            try prunable.remove(.key(id))
            try prunable.flush(.key, [])
        } catch {
            throw .system(error)
        }
        return id
    }

    /// The only key file whose id has this prefix; damaged ones included.
    private func find(_ prefix: String) throws(ImageError) -> String {
        let (keys, unusable) = try list()
        let all = keys.map(\.id) + unusable.map(\.id)
        let matching = prefix.isEmpty ? [] : all.filter { $0.hasPrefix(prefix) }
        guard let id = matching.first else {
            throw .missing("\(repository) has no key \(prefix): it has \(all.joined(separator: ", "))")
        }
        guard matching.count == 1 else {
            throw .ambiguous("several keys of \(repository) start with \(prefix): \(matching.joined(separator: ", "))")
        }
        return id
    }

    private func read(_ id: String) throws(ImageError) -> WrappedKey {
        let bytes: [UInt8]
        do { bytes = try store.source.read(.key(id), limit: WrappedKey.largestFile + 1) } catch { throw .system(error) }
        return try WrappedKey(bytes: bytes, name: store.name(of: .key(id)))
    }
}
