// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

extension LocalLayout {
    /// The temporary path of a lock: a reader must not see half of one, and a process may be allowed to write only in
    /// this folder.
    static func newLock(_ id: ObjectID, _ layout: LocalLayout) -> FilePath {
        layout.folder(.lock).appending(".\(id.name)\(newLockSuffix)")
    }
    static let newLockSuffix = ".new"
}

extension LocalStore {
    /// The age after which a file counts as left behind if its process cannot be checked: a running process finishes a
    /// file within minutes.
    private static let foreignAgeSeconds: Int64 = 24 * 3600

    /// Removes the files of `tmp/` whose process has ended. A writer that loses its file gets an error, nothing worse.
    package func removeLeftovers() -> UInt64 {
        var freed: UInt64 = 0
        // Determined once, and only if needed.
        var known: Int64??
        func keeper() -> Int64? {
            let now = known ?? now()
            known = .some(now)
            return now
        }
        for name in Files.names(in: layout.temporary) {
            let path = layout.temporary.appending(name)
            guard let status = try? Stat(path, followTargetSymlink: false), status.type == .regular,
                let times = (try? Files.status(path)) ?? nil, Self.isStale(name, modified: times.modified, keeper)
            else { continue }
            if (try? Files.remove(path)) != nil { freed += UInt64(max(0, status.size)) }
        }
        // Locks whose process was killed before they got their name.
        let locks = layout.folder(.lock)
        for name in Files.names(in: locks) where name.hasPrefix(".") && name.hasSuffix(LocalLayout.newLockSuffix) {
            let path = locks.appending(name)
            guard let status = (try? Files.status(path)) ?? nil else { continue }
            if Self.isOld(status.modified, keeper) { try? Files.remove(path) }
        }
        return freed
    }

    private static func isOld(_ modified: Int64, _ keeper: () -> Int64?) -> Bool {
        guard let now = keeper() else { return false }
        let (age, isAbsurd) = now.subtractingReportingOverflow(modified)
        return !isAbsurd && age > foreignAgeSeconds
    }

    private static func isStale(_ name: String, modified: Int64, _ keeper: () -> Int64?) -> Bool {
        guard let writer = WriterToken(endOf: name) else { return false }
        if let isAlive = writer.isAlive { return !isAlive }
        // The start time in the name is by the writer's clock, so the file time is used.
        return isOld(modified, keeper)
    }
}
