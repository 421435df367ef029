// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import SystemPackage

extension Files {
    /// Metadata of a file.
    package struct Status: Equatable, Sendable {
        /// Its length in bytes.
        package var byteCount: UInt64
        /// When its bytes or its times were last set, by the clock of the filesystem's server; seconds since 1970.
        package var modified: Int64
        /// Whether it is a folder.
        package var isFolder: Bool
        /// Whether it is a plain file.
        package var isFile: Bool
    }

    /// The metadata of `path` (links followed); `nil` if it does not exist.
    ///
    /// The corresponding C function is `stat`.
    package static func status(_ path: FilePath) throws(SystemCallError) -> Status? {
        var result = stat()
        guard stat(path.string, &result) == 0 else {
            let reason = Errno(rawValue: errno)
            if reason == .noSuchFileOrDirectory || reason == .notDirectory { return nil }
            throw SystemCallError("look at", path.string, reason)
        }
        let type = result.st_mode & S_IFMT
        return Status(
            byteCount: UInt64(max(0, result.st_size)), modified: Int64(result.st_mtim.tv_sec),
            isFolder: type == S_IFDIR, isFile: type == S_IFREG)
    }

    /// The length of an opened file and the times at which its bytes and its inode last changed,
    /// in seconds and nanoseconds.
    ///
    /// The corresponding C function is `fstat`.
    static func changeTimes(_ descriptor: FileDescriptor) -> (byteCount: UInt64, times: [Int])? {
        var result = stat()
        guard fstat(descriptor.rawValue, &result) == 0 else { return nil }
        return (
            UInt64(max(0, result.st_size)),
            [result.st_mtim.tv_sec, result.st_mtim.tv_nsec, result.st_ctim.tv_sec, result.st_ctim.tv_nsec]
        )
    }

    /// Marks a file as in use: sets its times to now, by the clock of the filesystem's server.
    ///
    /// The corresponding C function is `futimens`.
    package static func touch(_ descriptor: FileDescriptor, _ name: String) throws(SystemCallError) {
        try changing(FilePath(name)) { () throws(SystemCallError) in
            guard futimens(descriptor.rawValue, nil) == 0 else {
                throw SystemCallError("set the time of", name, Errno(rawValue: errno))
            }
        }
    }
}
