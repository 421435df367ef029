// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import Glibc
import SystemPackage

/// A folder as the root of an untrusted tree, such as a restored system. Every path is resolved inside it (openat2
/// with RESOLVE_IN_ROOT), so that a link such as `/etc -> ../../etc` cannot lead out of it.
package struct AnchoredFolder: ~Copyable, Sendable {
    package let path: FilePath
    private let folder: OwnedDescriptor

    package init(_ path: FilePath) throws(SystemCallError) {
        self.path = path
        folder = try OwnedDescriptor.open(path, .readOnly, options: [.directory])
    }

    /// Opens a file below the folder.
    ///
    /// The corresponding C function is `openat2`.
    package func open(
        _ inner: String, _ mode: FileDescriptor.AccessMode, options: FileDescriptor.OpenOptions = [],
        permissions: UInt64 = 0o644
    ) throws(SystemCallError) -> OwnedDescriptor {
        let flags = UInt64(UInt32(bitPattern: mode.rawValue | options.rawValue))
        let result = rf_openat2(
            folder.raw.rawValue, inner, flags, options.contains(.create) ? permissions : 0,
            rf_resolve_in_root() | rf_resolve_no_magiclinks())
        return OwnedDescriptor(
            owning: FileDescriptor(rawValue: try check(result, "open", "\(inner) below \(path)")))
    }

    /// All bytes of a (small) file below the folder; at most `limit`.
    package func read(_ inner: String, limit: Int = 1 << 24) throws(SystemCallError) -> [UInt8] {
        // Bound to a name: a temporary would be closed before the read. Opening a pipe of that
        // name would block forever.
        let file = try open(inner, .readOnly, options: [.nonBlocking, .init(rawValue: O_NOCTTY)])
        var status = stat()
        guard fstat(file.raw.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw SystemCallError("read", "\(inner) below \(path)", .invalidArgument)
        }
        return try Files.readAll(file.raw, inner, limit: limit)
    }

    /// The text of a file below the folder; `nil` if it cannot be read.
    package func text(_ inner: String) -> String? { (try? read(inner)).map { String(decoding: $0, as: UTF8.self) } }

    /// Whether the path exists and can be opened.
    package func exists(_ inner: String) -> Bool {
        let result = rf_openat2(
            folder.raw.rawValue, inner, UInt64(UInt32(bitPattern: rf_o_path())), 0,
            rf_resolve_in_root() | rf_resolve_no_magiclinks())
        guard result >= 0 else { return false }
        try? FileDescriptor(rawValue: result).close()
        return true
    }

    /// The names in a folder below, sorted; empty if it cannot be read.
    package func names(in inner: String) -> [String] {
        guard let descriptor = try? open(inner, .readOnly, options: [.directory]) else { return [] }
        return Files.names(in: FilePath("/proc/self/fd/\(descriptor.raw.rawValue)"))
    }

    /// Creates a folder below, with its missing parents.
    package func makeFolders(_ inner: String) throws(SystemCallError) {
        var done = ""
        for part in inner.split(separator: "/") {
            let parent = try open(done.isEmpty ? "." : done, .readOnly, options: [.directory])
            done += (done.isEmpty ? "" : "/") + part
            guard mkdirat(parent.raw.rawValue, String(part), 0o755) == 0 || errno == EEXIST else {
                throw SystemCallError("create", "\(done) below \(path)", Errno(rawValue: errno))
            }
        }
    }

    /// Creates or replaces a file below the folder: temporary name, fsync, rename, fsync of the folder. An existing
    /// file keeps its permissions.
    package func write(_ bytes: [UInt8], to inner: String) throws(SystemCallError) {
        let place = try parent(of: inner)
        let parent = place.folder
        let name = place.name
        let temporary = ".\(name).reforge-new"
        var status = stat()
        let permissions: mode_t = fstatat(parent.raw.rawValue, name, &status, 0) == 0 ? status.st_mode & 0o7777 : 0o644
        unlinkat(parent.raw.rawValue, temporary, 0)
        let fd = openat(
            parent.raw.rawValue, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, permissions)
        guard fd >= 0 else { throw SystemCallError("create", "\(inner) below \(path)", Errno(rawValue: errno)) }
        let file = OwnedDescriptor(owning: FileDescriptor(rawValue: fd))
        var isInPlace = false
        // A full filesystem must not keep half a file.
        defer { if !isInPlace { unlinkat(parent.raw.rawValue, temporary, 0) } }
        do { _ = try file.raw.writeAll(bytes) } catch {
            throw SystemCallError("write", "\(inner) below \(path)", error as? Errno ?? .ioError)
        }
        _ = fchmod(fd, permissions)
        guard fsync(fd) == 0 else { throw SystemCallError("write", "\(inner) below \(path)", Errno(rawValue: errno)) }
        guard renameat(parent.raw.rawValue, temporary, parent.raw.rawValue, name) == 0 else {
            throw SystemCallError("replace", "\(inner) below \(path)", Errno(rawValue: errno))
        }
        isInPlace = true
        try Files.sync(parent.raw, inner)
    }
}
