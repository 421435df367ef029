// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A folder that only this user can enter, for sockets. It is removed with the object; the folder of a process that was
/// killed is removed by the next one.
package final class PrivateFolder: Sendable {
    package let path: FilePath
    /// Held as long as the folder is in use, so that another process can tell a folder that was left behind.
    private let lock: FolderLock
    private static let prefix = "reforge-qemu"
    /// The longest path of a Unix socket (`sun_path`, unix(7)) without its terminating zero.
    private static let longestSocketPath = 107

    package init() throws(EmulatorError) {
        let parent = Self.parent
        Self.removeLeftovers(in: parent)
        for _ in 0..<16 {
            let made: FilePath
            do { made = try Files.makeTemporaryFolder(Self.prefix, in: parent) } catch { throw .system(error) }
            // Another process may have taken the new folder for a leftover before it was locked.
            if let lock = FolderLock(ifFree: made), Files.exists(made) {
                (path, self.lock) = (made, lock)
                return
            }
            try? Files.removeFolder(made)
        }
        throw .system(SystemCallError("lock a folder in", parent.string, .resourceBusy))
    }

    /// The user's own folder in memory, or the one for temporary files where a socket's path fits.
    private static var parent: FilePath {
        let own = SystemFacts.environment("XDG_RUNTIME_DIR").map { FilePath($0) }.flatMap { folder in
            // Under sudo it may be that of another user, who could put another folder in place of this one.
            (try? Stat(folder))?.userID.rawValue == SystemFacts.userID ? folder : nil
        }
        let usable = [own, Files.temporaryFolder].compactMap { $0 }.first { folder in
            folder.isAbsolute && Files.mayWrite(folder)
                && folder.string.utf8.count + prefix.utf8.count + 32 <= longestSocketPath
        }
        return usable ?? "/tmp"
    }

    private static func removeLeftovers(in parent: FilePath) {
        for name in Files.names(in: parent) where name.hasPrefix("\(prefix).") {
            let folder = parent.appending(name)
            guard let status = try? Stat(folder, followTargetSymlink: false), status.type == .directory,
                status.userID.rawValue == SystemFacts.userID, let lock = FolderLock(ifFree: folder)
            else { continue }
            remove(folder)
            lock.release()
        }
    }

    private static func remove(_ folder: FilePath) {
        for name in Files.names(in: folder) { try? Files.remove(folder.appending(name)) }
        try? Files.removeFolder(folder)
    }

    deinit { Self.remove(path) }
}
