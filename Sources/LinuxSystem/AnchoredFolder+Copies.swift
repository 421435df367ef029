// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import SystemPackage

/// Large files inside the tree.
extension AnchoredFolder {
    /// Opens a regular file for reading.
    package func openFile(_ inner: String) throws(SystemCallError) -> OwnedDescriptor {
        // Opening a pipe of that name would block forever.
        let file = try open(inner, .readOnly, options: [.nonBlocking, .init(rawValue: O_NOCTTY)])
        var status = stat()
        guard fstat(file.raw.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw SystemCallError("read", "\(inner) below \(path)", .invalidArgument)
        }
        return file
    }

    /// The length of a regular file in bytes; `nil` if there is none.
    package func byteCount(of inner: String) -> UInt64? {
        guard let file = try? openFile(inner) else { return nil }
        var status = stat()
        return fstat(file.raw.rawValue, &status) == 0 ? UInt64(max(status.st_size, 0)) : nil
    }

    /// Copies a file beside itself durably; a file of the new name is replaced.
    /// - Parameter name: the name of the copy, in the same folder.
    package func duplicate(_ inner: String, as name: String) throws(SystemCallError) {
        let source = try openFile(inner)
        let place = try parent(of: inner)
        let temporary = ".\(name).reforge-new"
        unlinkat(place.folder.raw.rawValue, temporary, 0)
        let number = openat(
            place.folder.raw.rawValue, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard number >= 0 else { throw SystemCallError("create", "\(name) below \(path)", Errno(rawValue: errno)) }
        let copy = OwnedDescriptor(owning: FileDescriptor(rawValue: number))
        var isInPlace = false
        // A full filesystem must not keep half a file.
        defer { if !isInPlace { unlinkat(place.folder.raw.rawValue, temporary, 0) } }
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        do {
            while true {
                let count = try buffer.withUnsafeMutableBytes { try source.raw.read(into: $0) }
                if count == 0 { break }
                _ = try copy.raw.writeAll(buffer[..<count])
            }
        } catch { throw SystemCallError("copy", "\(inner) below \(path)", error as? Errno ?? .ioError) }
        var status = stat()
        if fstat(source.raw.rawValue, &status) == 0 { _ = fchmod(number, status.st_mode & 0o7777) }
        guard fsync(number) == 0 else {
            throw SystemCallError("write", "\(name) below \(path)", Errno(rawValue: errno))
        }
        guard renameat(place.folder.raw.rawValue, temporary, place.folder.raw.rawValue, name) == 0 else {
            throw SystemCallError("replace", "\(name) below \(path)", Errno(rawValue: errno))
        }
        isInPlace = true
        try Files.sync(place.folder.raw, inner)
    }
}
