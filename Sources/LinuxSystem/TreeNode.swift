// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import Glibc
import SystemPackage

/// A file, folder or link of an untrusted tree, held by an `O_PATH` descriptor: what is read is what was looked at,
/// and a name is bytes, as the filesystem has it.
package final class TreeNode: Sendable {
    package enum Kind: UInt8, Sendable {
        case file = 1
        case folder, link, characterDevice, blockDevice, pipe, socket, other
    }

    /// What stat(2) says.
    package struct Status: Equatable, Sendable {
        package var kind: Kind
        /// The lower 12 bits of the mode.
        package var permissions: UInt16
        package var owner: UInt32
        package var group: UInt32
        package var byteCount: UInt64
        package var allocatedByteCount: UInt64
        /// Modification time: seconds since 1970, and nanoseconds.
        package var modified: Int64
        package var modifiedNanoseconds: UInt32
        package var inode: UInt64
        package var device: UInt64
        package var linkCount: UInt64
        /// The numbers of a device node.
        package var major: UInt32
        package var minor: UInt32
    }

    package let descriptor: FileDescriptor

    private init(_ number: Int32) { descriptor = FileDescriptor(rawValue: number) }

    deinit { try? descriptor.close() }

    /// Opens a folder by a trusted path, as the root of a tree.
    ///
    /// The corresponding C function is `open(O_PATH)`.
    package static func root(_ path: FilePath) throws(Errno) -> TreeNode {
        TreeNode(try Names.check(path.string.withCString { open($0, rf_o_path() | O_DIRECTORY | O_CLOEXEC) }))
    }

    /// Opens an entry of this folder. A link is the link itself.
    ///
    /// The corresponding C function is `openat(O_PATH | O_NOFOLLOW)`.
    package func child(_ name: [UInt8]) throws(Errno) -> TreeNode {
        TreeNode(
            try Names.check(
                try Names.with(name) { openat(descriptor.rawValue, $0, rf_o_path() | O_NOFOLLOW | O_CLOEXEC) }))
    }

    /// Opens a path below this folder. Links in it are resolved as if this folder were `/`.
    ///
    /// The corresponding C function is `openat2(RESOLVE_IN_ROOT)`.
    /// - Parameter followsLast: whether a link at the end of the path is followed too.
    package func resolve(_ path: [UInt8], followsLast: Bool) throws(Errno) -> TreeNode {
        guard !path.contains(0), path.count < 1 << 16 else { throw .invalidArgument }
        let flags = UInt64(UInt32(bitPattern: rf_o_path() | (followsLast ? 0 : O_NOFOLLOW)))
        let inner = path.allSatisfy { $0 == UInt8(ascii: "/") } ? [UInt8(ascii: ".")] : path
        let result = Names.bytes(inner).withUnsafeBufferPointer { pointer in
            pointer.baseAddress.map {
                rf_openat2(
                    descriptor.rawValue, $0, flags, 0, rf_resolve_in_root() | rf_resolve_no_magiclinks())
            } ?? -EINVAL
        }
        guard result >= 0 else { throw Errno(rawValue: -result) }
        return TreeNode(result)
    }

    /// The corresponding C function is `fstat`.
    package func status() throws(Errno) -> Status {
        var found = stat()
        _ = try Names.check(fstat(descriptor.rawValue, &found))
        let kind: Kind =
            switch found.st_mode & S_IFMT {
            case S_IFREG: .file
            case S_IFDIR: .folder
            case S_IFLNK: .link
            case S_IFCHR: .characterDevice
            case S_IFBLK: .blockDevice
            case S_IFIFO: .pipe
            case S_IFSOCK: .socket
            default: .other
            }
        return Status(
            kind: kind, permissions: UInt16(found.st_mode & 0o7777), owner: found.st_uid, group: found.st_gid,
            byteCount: UInt64(max(0, found.st_size)), allocatedByteCount: UInt64(max(0, found.st_blocks)) &* 512,
            modified: Int64(found.st_mtim.tv_sec),
            modifiedNanoseconds: UInt32(max(0, min(999_999_999, found.st_mtim.tv_nsec))),
            inode: UInt64(found.st_ino), device: UInt64(found.st_dev), linkCount: UInt64(found.st_nlink),
            major: rf_major(UInt64(found.st_rdev)), minor: rf_minor(UInt64(found.st_rdev)))
    }

    /// The corresponding C function is `readlinkat`.
    package func linkTarget() throws(Errno) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        let count = buffer.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map {
                readlinkat(descriptor.rawValue, "", $0.assumingMemoryBound(to: CChar.self), bytes.count)
            } ?? -1
        }
        guard count >= 0 else { throw Errno(rawValue: errno) }
        return Array(buffer.prefix(count))
    }

    /// The names in this folder, sorted by their bytes.
    ///
    /// The corresponding C function is `readdir`.
    /// - Returns: those that can be read, and the error that ended them.
    package func names() -> (found: [[UInt8]], failure: Errno?) {
        let opened = open(Names.proc(descriptor), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard opened >= 0 else { return ([], Errno(rawValue: errno)) }
        guard let stream = fdopendir(opened) else {
            let reason = errno
            close(opened)
            return ([], Errno(rawValue: reason))
        }
        defer { closedir(stream) }
        var names: [[UInt8]] = []
        var failure: Errno?
        while true {
            // The end of the folder and an error both return nothing; only an error sets errno.
            errno = 0
            guard let entry = readdir(stream) else {
                if errno != 0 { failure = Errno(rawValue: errno) }
                break
            }
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            if name != [UInt8(ascii: ".")], name != Array("..".utf8) { names.append(name) }
        }
        return (names.sorted { $0.lexicographicallyPrecedes($1) }, failure)
    }

    /// Opens this file for reading. A pipe is not waited for.
    ///
    /// The corresponding C function is `open`.
    package func openForReading() throws(Errno) -> OwnedDescriptor {
        OwnedDescriptor(
            owning: FileDescriptor(
                rawValue: try Names.check(
                    open(Names.proc(descriptor), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC))))
    }

    /// The extended attributes, ACLs among them; empty where the filesystem has none.
    ///
    /// The corresponding C functions are `listxattr` and `getxattr`, through /proc, as `O_PATH` allows no other.
    /// - Returns: those that can be read, and the first error.
    package func attributes() -> (found: [(name: [UInt8], value: [UInt8])], failure: Errno?) {
        let path = Names.proc(descriptor)
        let list: [UInt8]
        do { list = try Self.sized { rf_list_attributes(path, $0, $1) } } catch { return ([], error) }
        var attributes: [(name: [UInt8], value: [UInt8])] = []
        var failure: Errno?
        for name in list.split(separator: 0).map({ Array($0) }) {
            do throws(Errno) {
                let value = try Self.sized { buffer, count in
                    Names.bytes(name).withUnsafeBufferPointer { pointer in
                        pointer.baseAddress.map { rf_get_attribute(path, $0, buffer, count) } ?? -1
                    }
                }
                attributes.append((name, value))
            } catch { failure = failure ?? error }
        }
        return (attributes, failure)
    }

    /// Linux limits a list and a value to 64 KiB each (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
    private static func sized(_ call: (UnsafeMutablePointer<CChar>?, Int) -> Int) throws(Errno) -> [UInt8] {
        var buffer = [CChar](repeating: 0, count: 1 << 16)
        let count = buffer.withUnsafeMutableBufferPointer { call($0.baseAddress, $0.count) }
        if count < 0, errno == EOPNOTSUPP || errno == ENOSYS { return [] }
        guard count >= 0 else { throw Errno(rawValue: errno) }
        return buffer.prefix(count).map { UInt8(bitPattern: $0) }
    }

    /// The next range with data at or after `offset` in a file of `byteCount` bytes; `nil` behind the last one. A
    /// filesystem without this knowledge calls all of the file data.
    ///
    /// The corresponding C function is `lseek(SEEK_DATA)`, `lseek(SEEK_HOLE)`.
    package static func nextData(
        of file: FileDescriptor, from offset: UInt64, byteCount: UInt64
    ) throws(Errno) -> Range<UInt64>? {
        guard offset < byteCount, let from = Int(exactly: offset) else { return nil }
        let start = lseek(file.rawValue, from, 3)
        if start < 0 {
            if errno == ENXIO { return nil }
            if errno == EINVAL || errno == EOPNOTSUPP { return offset..<byteCount }
            throw Errno(rawValue: errno)
        }
        // The next data can lie behind the length that the caller knows.
        guard start < byteCount else { return nil }
        let end = lseek(file.rawValue, start, 4)
        guard end >= 0 else { throw Errno(rawValue: errno) }
        let range = UInt64(max(start, from))..<min(max(UInt64(end), UInt64(start)), byteCount)
        return range.isEmpty ? nil : range
    }
}

/// Names of files as bytes for C functions.
enum Names {
    static func bytes(_ name: [UInt8]) -> [CChar] { name.map { CChar(bitPattern: $0) } + [0] }

    /// Calls with one component of a path: a name with a slash or a NUL, `.` or `..` would lead elsewhere.
    static func with(_ name: [UInt8], _ call: (UnsafePointer<CChar>) -> Int32) throws(Errno) -> Int32 {
        guard !name.isEmpty, !name.contains(0), !name.contains(UInt8(ascii: "/")), name != Array(".".utf8),
            name != Array("..".utf8)
        else { throw .invalidArgument }
        return bytes(name).withUnsafeBufferPointer { $0.baseAddress.map(call) ?? -1 }
    }

    @discardableResult
    static func check(_ result: Int32) throws(Errno) -> Int32 {
        guard result >= 0 else { throw Errno(rawValue: errno) }
        return result
    }

    static func proc(_ descriptor: FileDescriptor) -> String { "/proc/self/fd/\(descriptor.rawValue)" }
}
