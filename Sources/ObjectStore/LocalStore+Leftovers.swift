// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

extension LocalLayout {
    /// A lock before it has its name: a reader must not see half of one, and others may write in its folder alone.
    static func newLock(_ id: ObjectID, _ layout: LocalLayout) -> FilePath {
        layout.folder(.lock).appending(".\(id.name)\(newLockSuffix)")
    }
    static let newLockSuffix = ".new"
}

extension LocalStore {
    /// The age after which a file of a process that cannot be asked counts as left behind: a process at work finishes
    /// a file within minutes.
    private static let foreignAgeSeconds: Int64 = 24 * 3600

    /// Removes the files of `tmp/` whose process is no more. Losing such a file is never worse than an error for its writer.
    package func removeLeftovers() -> UInt64 {
        var freed: UInt64 = 0
        // Asked for once, and only where something depends on it.
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
        // A lock that was killed before it had its name.
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
        // When it was begun is by the clock of its writer.
        return isOld(modified, keeper)
    }
}
