// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import Filesystems
import ImageFiles
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage

/// Opens repositories for commands.
package enum OpenedRepository {
    /// Opens a repository under a lock. The lock comes first: a user must not type a password and then wait.
    package static func open(
        _ address: String, _ keys: KeyRing, _ operation: RepositoryOperation, waiting: Double = 0
    ) throws -> (Repository, RepositoryLock) {
        let store = try Stores.open(address, cancellation: keys.cancellation)
        let lock = try lock(store, operation, waiting, keys)
        return (try open(store, keys), lock)
    }

    /// Takes the lock of an operation on a repository.
    private static func lock(
        _ store: any PrunableStore, _ operation: RepositoryOperation, _ waiting: Double, _ keys: KeyRing
    ) throws -> RepositoryLock {
        // A problem with the address is reported first.
        _ = try Repository.configuration(in: store)
        return try RepositoryLock.acquire(
            in: store, operation: operation, waiting: waiting, cancellation: keys.cancellation,
            note: keys.events.log)
    }

    /// Opens a repository to read its lists, which needs no lock.
    package static func open(_ address: String, _ keys: KeyRing) throws -> Repository {
        try open(try Stores.open(address, cancellation: keys.cancellation), keys)
    }

    private static func open(_ store: any PrunableStore, _ keys: KeyRing) throws -> Repository {
        try Repository.open(store, keys: try keys.keys(store), cancellation: keys.cancellation) {
            [events = keys.events] in
            events.warn("damaged-copy", $0)
        }
    }

    /// The snapshot that an address names. `latest` or a time may mean a damaged snapshot: then no older one silently
    /// takes its place.
    package static func find(
        _ selector: SnapshotAddress, in repository: Repository, _ events: any EventSink
    ) throws -> Snapshot {
        let (whole, damaged) = repository.snapshotInfos()
        if let first = damaged.first {
            switch selector.choice {
            case .id(let prefix):
                let meant = damaged.first {
                    (FilePath($0.name).lastComponent?.string ?? $0.name).hasPrefix(prefix)
                }
                if let meant, !whole.contains(where: { $0.id.description.hasPrefix(prefix) }) { throw meant.error }
                for one in damaged {
                    events.warn("damaged-snapshot", "the snapshot \(one.name) cannot be read: \(one.error)")
                }
            case .latest, .time:
                throw JobFailure(
                    .badImage,
                    "\(first.error). It could be the one that is meant by \(selector.text): name another by its id "
                        + "(reforge snapshots \(selector.repository))")
            case .repository: break
            }
        }
        return try repository.snapshot(try SnapshotQuery(selector).resolve(in: whole).id)
    }

    /// The address of `REPO`, or of `REPO@` as `capture` takes it.
    package static func address(_ text: String) throws -> String {
        if LocalStore.isRepository(FilePath(text)) { return Stores.normalized(text) }
        if case .snapshot(let address) = try ImageAddress.parse(text, .thisMachine), address.choice == .repository {
            return Stores.normalized(address.repository)
        }
        guard Stores.isFolder(text) else { throw JobFailure(.usage, "\(text) names a snapshot, not a repository") }
        return Stores.normalized(text)
    }
}

extension SnapshotAddress {
    /// Reports that an existing path was taken in place of a snapshot.
    package static func noteHidden(by text: String, _ events: any EventSink) {
        guard let hidden = ImageAddress.hiddenSnapshot(by: text, .thisMachine) else { return }
        let behind = text.dropFirst(hidden.repository.count)
        events.note(
            "hidden-snapshot",
            "\(text) is taken as the path that exists, not as a snapshot; that one is \(hidden.repository)/\(behind)"
        )
    }
}
