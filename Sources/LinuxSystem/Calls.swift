// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import Glibc
import SystemPackage

// Thin wrappers of calls that swift-system does not have.

/// errno of the call just made on this thread.
func errnoNow() -> Int32 { errno }

/// `fsync` under a name that resolves to a function here.
func fsync(_ descriptor: Int32) -> Int32 { Glibc.fsync(descriptor) }

/// The file system as other programs see it, one function per call.
package enum Files {
    /// All bytes of a (small) file; at most `limit`.
    ///
    /// The corresponding C functions are `open` and `read`.
    package static func read(_ path: FilePath, limit: Int = 1 << 24) throws(SystemCallError) -> [UInt8] {
        let descriptor = try OwnedDescriptor.open(path, .readOnly)
        return try readAll(descriptor.raw, path.string, limit: limit)
    }

    /// All bytes up to the end of file; at most `limit`.
    package static func readAll(
        _ descriptor: FileDescriptor, _ name: String, limit: Int = 1 << 24
    ) throws(SystemCallError) -> [UInt8] {
        var bytes: [UInt8] = []
        do {
            while bytes.count < limit {
                let part = try [UInt8](unsafeUninitializedCapacity: min(1 << 16, limit - bytes.count)) {
                    buffer, count in
                    count = try descriptor.read(into: UnsafeMutableRawBufferPointer(buffer))
                }
                if part.isEmpty { break }
                bytes += part
            }
        } catch {
            throw SystemCallError("read", name, error as? Errno ?? .ioError)
        }
        return bytes
    }

    /// The text of a (small) file without trailing white space; `nil` if it cannot be read. For sysfs and procfs.
    package static func text(_ path: FilePath) -> String? {
        guard let bytes = try? read(path) else { return nil }
        let trimmed = bytes.reversed().drop { $0 == 10 || $0 == 32 || $0 == 0 || $0 == 13 || $0 == 9 }
        return String(decoding: trimmed.reversed(), as: UTF8.self)
    }

    /// Creates or replaces a file durably: temporary name, fsync, rename, fsync of the folder.
    package static func write(
        _ bytes: [UInt8], to path: FilePath, permissions: FilePermissions = [.ownerReadWrite, .groupRead, .otherRead]
    ) throws(SystemCallError) {
        var temporary = path
        temporary.removeLastComponent()
        temporary.append(".\(path.lastComponent?.string ?? "file").reforge-new")
        let descriptor = try OwnedDescriptor.open(
            temporary, .writeOnly, options: [.create, .truncate, .noFollow], permissions: permissions)
        var isInPlace = false
        // A full filesystem must not keep half a file.
        defer { if !isInPlace { try? remove(temporary) } }
        do { _ = try descriptor.raw.writeAll(bytes) } catch {
            throw SystemCallError("write", temporary.string, error as? Errno ?? .ioError)
        }
        try sync(descriptor.raw, temporary.string)
        try descriptor.close()
        try rename(temporary, to: path)
        isInPlace = true
        try syncFolder(of: path)
    }

    /// The corresponding C function is `rename`.
    package static func rename(_ old: FilePath, to new: FilePath) throws(SystemCallError) {
        try changing(new) { () throws(SystemCallError) in
            guard Glibc.rename(old.string, new.string) == 0 else {
                throw SystemCallError("rename \(old) to", new.string, Errno(rawValue: errno))
            }
        }
    }

    /// Renames; fails with EEXIST if the new name exists.
    ///
    /// The corresponding C function is `renameat2(RENAME_NOREPLACE)`; on a filesystem without it (exFAT), an existence
    /// check and a plain `rename`.
    package static func renameNew(_ old: FilePath, to new: FilePath) throws(SystemCallError) {
        let result = changing(new) { rf_rename_new(old.string, new.string) }
        if result == 0 { return }
        if result == -EINVAL || result == -ENOSYS, !exists(new) { return try rename(old, to: new) }
        throw SystemCallError("rename \(old) to", new.string, Errno(rawValue: -result))
    }

    /// Makes a name durable: fsync of the folder that holds `path`.
    package static func syncFolder(of path: FilePath) throws(SystemCallError) {
        let folder = path.removingLastComponent()
        let descriptor = try OwnedDescriptor.open(
            folder.isEmpty ? "." : folder, .readOnly, options: [.directory])
        try sync(descriptor.raw, folder.string)
    }

    /// Waits until a file is on the medium.
    ///
    /// The corresponding C function is `fsync`.
    package static func sync(_ descriptor: FileDescriptor, _ name: String) throws(SystemCallError) {
        try PendingCalls(name, on: descriptor).during(.flush) { () throws(SystemCallError) in
            guard fsync(descriptor.rawValue) == 0 else {
                throw SystemCallError("write", name, Errno(rawValue: errno))
            }
        }
    }

    /// Makes a call that changes a name, and records it while it runs.
    static func changing<Result, Failure: Error>(
        _ path: FilePath, _ call: () throws(Failure) -> Result
    ) throws(Failure) -> Result { try PendingCalls(path: path.string).during(.change, call) }

    /// The corresponding C function is `unlink`.
    package static func remove(_ path: FilePath) throws(SystemCallError) {
        try changing(path) { () throws(SystemCallError) in
            guard unlink(path.string) == 0 else { throw SystemCallError("remove", path.string, Errno(rawValue: errno)) }
        }
    }

    /// The corresponding C function is `rmdir`.
    package static func removeFolder(_ path: FilePath) throws(SystemCallError) {
        try changing(path) { () throws(SystemCallError) in
            guard rmdir(path.string) == 0 else { throw SystemCallError("remove", path.string, Errno(rawValue: errno)) }
        }
    }

    /// Creates a folder and its missing parents.
    ///
    /// The corresponding C function is `mkdir`.
    package static func makeFolders(_ path: FilePath) throws(SystemCallError) {
        let reason = changing(path) { mkdir(path.string, 0o755) == 0 ? 0 : errno }
        if reason == 0 || reason == EEXIST { return }
        guard reason == ENOENT, path.components.count > 1 else {
            throw SystemCallError("create", path.string, Errno(rawValue: reason))
        }
        try makeFolders(path.removingLastComponent())
        guard mkdir(path.string, 0o755) == 0 || errno == EEXIST else {
            throw SystemCallError("create", path.string, Errno(rawValue: errno))
        }
    }

    /// A new private folder, `/tmp/NAME.XXXXXX` (or below `folder`).
    ///
    /// The corresponding C function is `mkdtemp`.
    package static func makeTemporaryFolder(
        _ name: String, in folder: FilePath? = nil
    ) throws(SystemCallError) -> FilePath {
        let base = folder ?? temporaryFolder
        var template = Array(base.appending("\(name).XXXXXX").string.utf8CString)
        let made = template.withUnsafeMutableBufferPointer { buffer in
            buffer.baseAddress.flatMap { mkdtemp($0) } != nil
        }
        guard made else { throw SystemCallError("create a folder in", base.string, Errno(rawValue: errno)) }
        return FilePath(String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self))
    }

    /// Where temporary files go: `TMPDIR`, else `/tmp`.
    package static var temporaryFolder: FilePath {
        FilePath(getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp")
    }

    /// A folder in memory (tmpfs) that this process may write to; `nil` if this machine has none.
    package static var memoryFolder: FilePath? {
        ([temporaryFolder, "/dev/shm", "/run", "/tmp"] as [FilePath]).first { isInMemory($0) && mayWrite($0) }
    }

    /// Whether this process may write to an existing file or device, or create files in a folder.
    ///
    /// The corresponding C function is `access`.
    package static func mayWrite(_ path: FilePath) -> Bool { access(path.string, W_OK) == 0 }

    /// The names in a folder, sorted; empty if it cannot be read.
    ///
    /// The corresponding C function is `readdir`.
    package static func names(in folder: FilePath) -> [String] { (try? allNames(in: folder)) ?? [] }

    /// The names in a folder, sorted and complete: a read error is thrown.
    ///
    /// The corresponding C function is `readdir`.
    package static func allNames(in folder: FilePath) throws(SystemCallError) -> [String] {
        guard let stream = opendir(folder.string) else {
            throw SystemCallError("list", folder.string, Errno(rawValue: errno))
        }
        defer { closedir(stream) }
        var names: [String] = []
        while true {
            // The end of the folder and an error both return nothing; only an error sets errno.
            errno = 0
            guard let entry = readdir(stream) else {
                let reason = errno
                if reason != 0 { throw SystemCallError("list", folder.string, Errno(rawValue: reason)) }
                break
            }
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Whether the path exists (links followed).
    package static func exists(_ path: FilePath) -> Bool { access(path.string, F_OK) == 0 }

    /// The target of a symbolic link; `nil` if the path is no link.
    ///
    /// The corresponding C function is `readlink`.
    package static func linkTarget(_ path: FilePath) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = buffer.withUnsafeMutableBytes { buffer in
            buffer.baseAddress.map { readlink(path.string, $0, buffer.count) } ?? -1
        }
        return count > 0 ? String(decoding: buffer.prefix(count), as: UTF8.self) : nil
    }

    /// The absolute path without links; `nil` if it does not exist.
    ///
    /// The corresponding C function is `realpath`.
    package static func realPath(_ path: FilePath) -> FilePath? {
        guard let resolved = realpath(path.string, nil) else { return nil }
        defer { free(resolved) }
        return FilePath(String(cString: resolved))
    }

    /// The absolute path without links, for a file that is made there; `nil` also where it is not valid UTF-8:
    /// repaired, it would be the path of another folder.
    ///
    /// The corresponding C function is `realpath`.
    package static func realFolder(_ path: FilePath) -> FilePath? {
        guard let resolved = realpath(path.isEmpty ? "." : path.string, nil) else { return nil }
        defer { free(resolved) }
        return String(validatingCString: resolved).map { FilePath($0) }
    }

    /// Sets a file's length.
    ///
    /// The corresponding C function is `ftruncate`.
    package static func resize(_ descriptor: FileDescriptor, _ name: String, to byteCount: UInt64)
        throws(SystemCallError)
    {
        try changing(FilePath(name)) { () throws(SystemCallError) in
            guard ftruncate(descriptor.rawValue, off_t(clamping: byteCount)) == 0 else {
                throw SystemCallError("resize", name, Errno(rawValue: errno))
            }
        }
    }

    /// Free bytes for this user on the filesystem that holds `path`; `nil` if unknown.
    ///
    /// The corresponding C function is `statvfs`.
    package static func freeByteCount(_ path: FilePath) -> UInt64? {
        var status = statvfs()
        guard statvfs(path.string, &status) == 0 else { return nil }
        return UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize)).partialValue
    }

    /// Whether files at `path` are in memory, on a tmpfs or ramfs.
    ///
    /// The corresponding C function is `statfs`.
    package static func isInMemory(_ path: FilePath) -> Bool { rf_storage(path.string) == 1 }

    /// Whether no other machine can have files at `path` open: they are in memory or on a local disk filesystem.
    package static func isOfThisMachine(_ path: FilePath) -> Bool { rf_storage(path.string) != 0 }
}

/// Time and process facts.
package enum SystemFacts {
    /// Seconds of the monotonic clock.
    package static func monotonicSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Milliseconds of the monotonic clock.
    static func monotonicMilliseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1000 + UInt64(time.tv_nsec) / 1_000_000
    }

    /// The memory available to programs without swapping, in bytes; `nil` if the kernel does not report it.
    package static func availableMemory() -> UInt64? {
        let line = Files.text("/proc/meminfo")?.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        let kibibytes = line?.split(separator: " ").dropFirst().first.flatMap { UInt64($0) }
        return kibibytes.map { $0.multipliedReportingOverflow(by: 1024).partialValue }
    }

    /// Seconds since 1970 in UTC.
    package static func unixSeconds() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec)
    }

    /// The current offset of local time from UTC, in seconds.
    package static func localOffsetSeconds() -> Int {
        var now = time(nil)
        var local = tm()
        localtime_r(&now, &local)
        return local.tm_gmtoff
    }

    /// RFC 3339 text in UTC: `2026-11-22T15:00:00Z`.
    package static func utcText(_ unixSeconds: Int64) -> String {
        var seconds = time_t(unixSeconds)
        var parts = tm()
        // A time of a damaged or hostile filesystem can be in a year that no text of this form has.
        guard gmtime_r(&seconds, &parts) != nil, (-1900...8099).contains(parts.tm_year) else {
            return "@\(unixSeconds)"
        }
        func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
            + "T\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))Z"
    }

    /// Whether a descriptor is a terminal.
    package static func isTerminal(_ descriptor: FileDescriptor) -> Bool { isatty(descriptor.rawValue) == 1 }

    /// The number of processors this process may use.
    package static func processorCount() -> Int {
        max(1, Int(rf_processor_count()))
    }

    /// Whether this process has the rights of root.
    package static var isRoot: Bool { userID == 0 }
    /// The effective user id.
    package static var userID: UInt32 { geteuid() }

    package static var processID: Int32 { getpid() }

    /// Whether this process is PID 1.
    package static var isFirstProcess: Bool { getpid() == 1 }

    /// Whether this is the recovery environment: Reforge's own initramfs, not a workstation that happens to have the
    /// same file. NVRAM is modified nowhere else.
    package static var isRecoveryEnvironment: Bool {
        Files.exists("/etc/reforge/build-id")
            && MountEntry.current().contains { $0.mountPoint == "/" && ["rootfs", "tmpfs", "ramfs"].contains($0.type) }
    }

    /// Waits.
    package static func sleep(seconds: Double) { sleep(seconds) { true } }

    /// Waits, but no longer than until the cancellation is requested.
    package static func sleep(seconds: Double, unless cancellation: Cancellation) {
        sleep(seconds) { !cancellation.isRequested }
    }

    /// - Parameter goesOn: whether to continue, asked after each signal.
    private static func sleep(_ seconds: Double, goesOn: () -> Bool) {
        var time = timespec(tv_sec: Int(seconds), tv_nsec: Int((seconds - seconds.rounded(.down)) * 1e9))
        var rest = timespec()
        while nanosleep(&time, &rest) != 0, errno == EINTR, goesOn() { time = rest }
    }
}
