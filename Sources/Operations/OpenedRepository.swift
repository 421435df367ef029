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

/// Repositories as commands open them.
package enum OpenedRepository {
    /// Opens a repository under a lock, which comes before the password: what waits must not be typed for.
    package static func open(
        _ path: FilePath, _ keys: KeyRing, _ operation: RepositoryOperation, waiting: Double = 0
    ) throws -> (Repository, RepositoryLock) {
        let lock = try lock(path, operation, waiting, keys)
        return (try open(path, keys), lock)
    }

    /// A lock that says what is done to a repository.
    private static func lock(
        _ path: FilePath, _ operation: RepositoryOperation, _ waiting: Double, _ keys: KeyRing
    ) throws -> RepositoryLock {
        // What is wrong with the path is said first.
        _ = try Repository.configuration(in: LocalStore(path))
        return try RepositoryLock.acquire(
            in: LocalStore(path), operation: operation, waiting: waiting, cancellation: keys.cancellation,
            note: keys.events.log)
    }

    /// Opens a repository for a look at its lists, which needs no lock.
    package static func open(_ path: FilePath, _ keys: KeyRing) throws -> Repository {
        try Repository.open(LocalStore(path), keys: try keys.keys(path), cancellation: keys.cancellation) {
            [events = keys.events] in
            events.warn("damaged-copy", $0)
        }
    }

    /// The snapshot that a person means. A damaged one may be the one that is meant by a time or `latest`: then nothing
    /// older takes its place unsaid.
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

    /// `REPO`, or `REPO@` as capture writes it: a folder.
    package static func path(_ text: String) throws -> FilePath {
        if LocalStore.isRepository(FilePath(text)) { return FilePath(text) }
        if case .snapshot(let address) = try ImageAddress.parse(text, .thisMachine), address.choice == .repository {
            return FilePath(address.repository)
        }
        return FilePath(text)
    }
}

extension SnapshotAddress {
    /// Says where a path that exists was taken in place of a snapshot.
    package static func noteHidden(by text: String, _ events: any EventSink) {
        guard let hidden = ImageAddress.hiddenSnapshot(by: text, .thisMachine) else { return }
        let behind = text.dropFirst(hidden.repository.count)
        events.note(
            "hidden-snapshot",
            "\(text) is taken as the path that exists, not as a snapshot; that one is \(hidden.repository)/\(behind)"
        )
    }
}
