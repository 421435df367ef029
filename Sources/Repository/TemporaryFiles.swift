// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// The files in `tmp/`: each has the token of the process that writes it in its name.
package enum TemporaryFiles {
    /// The age after which a file of a process that cannot be asked counts as left behind. Whoever is at work finishes
    /// a file within minutes.
    static let foreignAgeSeconds: Int64 = 24 * 3600

    /// Removes what processes left that are no more. Losing such a file is never worse than an error for its writer.
    /// - Returns: the bytes that came free.
    @discardableResult
    static func removeStale(_ layout: RepositoryLayout) -> UInt64 {
        var freed: UInt64 = 0
        // Asked for once, and only where something depends on it.
        var known: Int64??
        func keeper() -> Int64? {
            let now = known ?? keeperSeconds(layout)
            known = .some(now)
            return now
        }
        for name in Files.names(in: layout.temporary) {
            let path = layout.temporary.appending(name)
            guard let status = try? Stat(path, followTargetSymlink: false), status.type == .regular,
                let times = (try? Files.status(path)) ?? nil, isStale(name, modified: times.modified, keeper)
            else { continue }
            if (try? Files.remove(path)) != nil { freed += UInt64(max(0, status.size)) }
        }
        // A lock that was killed before it had its name.
        let locks = layout.root.appending(LockFile.folder)
        for name in Files.names(in: locks) where name.hasPrefix(".") && name.hasSuffix(".new") {
            let path = locks.appending(name)
            guard let status = (try? Files.status(path)) ?? nil else { continue }
            if isOld(status.modified, keeper) { try? Files.remove(path) }
        }
        return freed
    }

    /// The time by the store's clock: that of a file just written there; `nil` where none can be.
    static func keeperSeconds(_ layout: RepositoryLayout) -> Int64? {
        let path = layout.temporary.appending("\(StoreName.random()).\(WriterToken.own)")
        guard
            let file = try? OwnedDescriptor.open(
                path, .writeOnly, options: [.create, .exclusiveCreate, .noFollow], permissions: [.ownerReadWrite])
        else { return nil }
        defer { try? Files.remove(path) }
        // On a full disk, the time of its creation has to do.
        _ = try? file.raw.writeAll([0])
        return ((try? Files.status(path)) ?? nil)?.modified
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
