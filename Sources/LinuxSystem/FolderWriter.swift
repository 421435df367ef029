// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import Glibc
import SystemPackage

/// An open folder that receives entries with names from outside. Each call takes one component of a path and follows
/// no link, so that nothing is made or changed outside of the folder.
package final class FolderWriter: Sendable {
    package let descriptor: FileDescriptor

    private init(_ number: Int32) { descriptor = FileDescriptor(rawValue: number) }

    deinit { try? descriptor.close() }

    /// Opens a folder by a trusted path.
    ///
    /// The corresponding C function is `open`.
    package init(_ path: FilePath) throws(Errno) {
        descriptor = FileDescriptor(
            rawValue: try Names.check(path.string.withCString { open($0, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }))
    }

    private func at(
        _ name: [UInt8], _ call: (Int32, UnsafePointer<CChar>) -> Int32
    ) throws(Errno) -> Int32 {
        let number = descriptor.rawValue
        return try Names.check(try Names.with(name) { call(number, $0) })
    }

    /// The corresponding C function is `openat(O_DIRECTORY | O_NOFOLLOW)`.
    package func folder(_ name: [UInt8]) throws(Errno) -> FolderWriter {
        FolderWriter(try at(name) { openat($0, $1, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) })
    }

    /// Makes a folder that only its owner can enter, until its permissions are set.
    ///
    /// The corresponding C function is `mkdirat`.
    package func makeFolder(_ name: [UInt8]) throws(Errno) { _ = try at(name) { mkdirat($0, $1, 0o700) } }

    /// Creates a file that only its owner can read, for writing.
    ///
    /// The corresponding C function is `openat(O_CREAT | O_EXCL)`.
    package func createFile(_ name: [UInt8]) throws(Errno) -> OwnedDescriptor {
        OwnedDescriptor(
            owning: FileDescriptor(
                rawValue: try at(name) {
                    openat($0, $1, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
                }))
    }

    /// Opens an existing regular file for reading.
    package func openFile(_ name: [UInt8]) throws(Errno) -> OwnedDescriptor {
        let file = OwnedDescriptor(
            owning: FileDescriptor(
                rawValue: try at(name) { openat($0, $1, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) }))
        var status = stat()
        guard fstat(file.raw.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw .invalidArgument
        }
        return file
    }

    /// The corresponding C function is `symlinkat`.
    package func makeLink(_ name: [UInt8], to target: [UInt8]) throws(Errno) {
        guard !target.isEmpty, !target.contains(0) else { throw .invalidArgument }
        let text = Names.bytes(target)
        _ = try at(name) { number, name in
            text.withUnsafeBufferPointer { $0.baseAddress.map { symlinkat($0, number, name) } ?? -1 }
        }
    }

    /// The corresponding C function is `mkfifoat`.
    package func makePipe(_ name: [UInt8]) throws(Errno) { _ = try at(name) { mkfifoat($0, $1, 0o600) } }

    /// Gives the file `old` of `folder` another name here.
    ///
    /// The corresponding C function is `linkat`.
    package func link(_ old: [UInt8], in folder: FolderWriter, as name: [UInt8]) throws(Errno) {
        _ = try folder.at(old) { number, old in
            (try? self.at(name) { linkat(number, old, $0, $1, 0) }) ?? -1
        }
    }

    /// Renames an entry of this folder.
    ///
    /// The corresponding C functions are `renameat2(RENAME_NOREPLACE)` and `renameat`.
    /// - Parameter replaces: whether an existing file of that name is replaced.
    package func rename(_ old: [UInt8], to name: [UInt8], replaces: Bool) throws(Errno) {
        let number = descriptor.rawValue
        let oldName = Names.bytes(old)
        func call(_ body: (UnsafePointer<CChar>, UnsafePointer<CChar>) -> Int32) throws(Errno) -> Int32 {
            try Names.with(name) { name in
                oldName.withUnsafeBufferPointer { $0.baseAddress.map { body($0, name) } ?? -1 }
            }
        }
        if replaces {
            try Names.check(try call { renameat(number, $0, number, $1) })
            return
        }
        let result = try call { rf_rename_new_at(number, $0, $1) }
        if result >= 0 { return }
        // Some filesystems cannot refuse to replace: then the check comes first, and another program may come between.
        guard result == -EINVAL else { throw Errno(rawValue: -result) }
        guard !exists(name) else { throw .fileExists }
        try Names.check(try call { renameat(number, $0, number, $1) })
    }

    /// The device and the inode of an entry, a link itself; `nil` without one.
    ///
    /// The corresponding C function is `fstatat(AT_SYMLINK_NOFOLLOW)`.
    package func node(_ name: [UInt8]) -> (device: UInt64, inode: UInt64)? {
        var status = stat()
        guard (try? at(name) { fstatat($0, $1, &status, AT_SYMLINK_NOFOLLOW) }) != nil else { return nil }
        return (UInt64(status.st_dev), UInt64(status.st_ino))
    }

    /// Whether the name is in use.
    package func exists(_ name: [UInt8]) -> Bool {
        (try? at(name) { faccessat($0, $1, F_OK, AT_SYMLINK_NOFOLLOW) }) != nil
    }

    /// The corresponding C function is `unlinkat`.
    package func remove(_ name: [UInt8]) { _ = try? at(name) { unlinkat($0, $1, 0) } }

    /// The corresponding C function is `fchownat(AT_SYMLINK_NOFOLLOW)`.
    package func setOwner(_ name: [UInt8], _ owner: UInt32, _ group: UInt32) throws(Errno) {
        _ = try at(name) { fchownat($0, $1, owner, group, AT_SYMLINK_NOFOLLOW) }
    }

    /// Sets the permissions of an entry that is no link: by a descriptor of that very entry.
    ///
    /// The corresponding C functions are `openat(O_PATH | O_NOFOLLOW)` and `chmod`.
    package func setPermissions(_ name: [UInt8], _ permissions: UInt16) throws(Errno) {
        let opened = try at(name) { openat($0, $1, rf_o_path() | O_NOFOLLOW | O_CLOEXEC) }
        defer { close(opened) }
        try Names.check(chmod(Names.proc(FileDescriptor(rawValue: opened)), mode_t(permissions)))
    }

    /// The corresponding C function is `utimensat(AT_SYMLINK_NOFOLLOW)`.
    package func setModified(_ name: [UInt8], _ seconds: Int64, _ nanoseconds: UInt32) throws(Errno) {
        let time = timespec(tv_sec: Int(seconds), tv_nsec: Int(min(nanoseconds, 999_999_999)))
        let times = [time, time]
        _ = try at(name) { utimensat($0, $1, times, AT_SYMLINK_NOFOLLOW) }
    }

    /// The corresponding C function is `lsetxattr`, through /proc: it takes no folder.
    package func setAttribute(_ attribute: [UInt8], of name: [UInt8], _ value: [UInt8]) throws(Errno) {
        guard !attribute.isEmpty, !attribute.contains(0) else { throw .invalidArgument }
        let path = Names.bytes(Array("\(Names.proc(descriptor))/".utf8) + name)
        let key = Names.bytes(attribute)
        _ = try at(name) { _, _ in
            path.withUnsafeBufferPointer { path in
                key.withUnsafeBufferPointer { key in
                    guard let path = path.baseAddress, let key = key.baseAddress else { return -1 }
                    return value.withUnsafeBytes { rf_set_attribute(path, key, $0.baseAddress, $0.count) }
                }
            }
        }
    }

    /// Writes everything on this filesystem to its disk.
    ///
    /// The corresponding C function is `syncfs`.
    package func sync() throws(Errno) {
        let result = rf_syncfs(descriptor.rawValue)
        guard result >= 0 else { throw Errno(rawValue: -result) }
    }
}
