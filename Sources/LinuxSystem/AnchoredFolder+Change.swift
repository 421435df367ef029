// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import Glibc
import SystemPackage

extension AnchoredFolder {
    /// The kind of an entry, not following a link at the end of the path.
    package enum EntryKind: String, Codable, Sendable {
        case file, folder, link, other
    }

    /// The kind of an entry; `nil` if it does not exist or its folder cannot be opened.
    ///
    /// The corresponding C function is `fstatat`.
    package func kind(of inner: String) -> EntryKind? {
        guard let place = try? parent(of: inner) else { return nil }
        var status = stat()
        guard fstatat(place.folder.raw.rawValue, place.name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { return nil }
        return Self.kind(status.st_mode)
    }

    /// The kind of what a path leads to, with links resolved inside this folder; `nil` if there is nothing.
    ///
    /// The corresponding C functions are `openat2`, with O_PATH, and `fstat`.
    package func kind(at inner: String) -> EntryKind? {
        guard let entry = try? open(inner, .readOnly, options: [.init(rawValue: rf_o_path())]) else { return nil }
        var status = stat()
        guard fstat(entry.raw.rawValue, &status) == 0 else { return nil }
        return Self.kind(status.st_mode)
    }

    private static func kind(_ mode: mode_t) -> EntryKind {
        switch mode & S_IFMT {
        case S_IFREG: .file
        case S_IFDIR: .folder
        case S_IFLNK: .link
        default: .other
        }
    }

    /// All bytes of a file.
    /// - Throws: `fileTooLarge` if it has more than `limit`, unlike `read(_:limit:)`, which cuts it off.
    package func readWhole(_ inner: String, limit: Int) throws(SystemCallError) -> [UInt8] {
        let bytes = try read(inner, limit: limit + 1)
        guard bytes.count <= limit else { throw SystemCallError("read", "\(inner) below \(path)", .fileTooLarge) }
        return bytes
    }

    /// The names in a folder, sorted, at most `count`: a hostile folder may have any number. Empty if it cannot be read.
    ///
    /// The corresponding C function is `readdir`.
    package func names(in inner: String, atMost count: Int) -> [String] {
        guard let descriptor = try? open(inner, .readOnly, options: [.directory]),
            let stream = opendir("/proc/self/fd/\(descriptor.raw.rawValue)")
        else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while names.count < count, let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            // A name that is not UTF-8 could not be opened by its text.
            let text = String(decoding: name, as: UTF8.self)
            if Array(text.utf8) == name, text != ".", text != ".." { names.append(text) }
        }
        return names.sorted()
    }

    /// Removes a file or a link, and makes the removal durable. Links in its folder's path are resolved inside this one.
    ///
    /// The corresponding C function is `unlinkat`.
    package func remove(_ inner: String) throws(SystemCallError) {
        let place = try parent(of: inner)
        guard unlinkat(place.folder.raw.rawValue, place.name, 0) == 0 else {
            throw SystemCallError("remove", "\(inner) below \(path)", Errno(rawValue: errno))
        }
        try Files.sync(place.folder.raw, inner)
    }

    /// Gives an entry another name; both names are resolved inside this folder. An existing entry is replaced.
    ///
    /// The corresponding C function is `renameat`.
    package func rename(_ inner: String, to other: String) throws(SystemCallError) {
        let from = try parent(of: inner)
        let to = try parent(of: other)
        guard renameat(from.folder.raw.rawValue, from.name, to.folder.raw.rawValue, to.name) == 0 else {
            throw SystemCallError("rename", "\(inner) below \(path)", Errno(rawValue: errno))
        }
        try Files.sync(to.folder.raw, other)
    }

    /// Sets the permissions of a file.
    ///
    /// The corresponding C function is `fchmod`.
    package func setPermissions(_ inner: String, _ permissions: FilePermissions) throws(SystemCallError) {
        let file = try open(inner, .readOnly, options: [.nonBlocking, .noFollow])
        guard fchmod(file.raw.rawValue, permissions.rawValue) == 0 else {
            throw SystemCallError("set the permissions of", "\(inner) below \(path)", Errno(rawValue: errno))
        }
    }

    /// The attribute that holds a file's SELinux label (selinux(8)).
    private static let labelName = "security.selinux"

    /// The SELinux label of a file; `nil` if it has none.
    ///
    /// The corresponding C function is `getxattr`, through /proc, so that it names the opened file.
    package func securityLabel(of inner: String) -> [UInt8]? {
        guard let file = try? open(inner, .readOnly, options: [.nonBlocking]) else { return nil }
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = buffer.withUnsafeMutableBufferPointer {
            rf_get_attribute("/proc/self/fd/\(file.raw.rawValue)", Self.labelName, $0.baseAddress, $0.count)
        }
        return count > 0 ? buffer.prefix(count).map { UInt8(bitPattern: $0) } : nil
    }

    /// Sets the SELinux label of a file, not following a link. A replaced or new file has none: confined services could
    /// not read it.
    ///
    /// The corresponding C function is `lsetxattr`, on a name in its opened folder.
    package func setSecurityLabel(_ label: [UInt8], of inner: String) throws(SystemCallError) {
        let place = try parent(of: inner)
        let result = label.withUnsafeBytes {
            rf_set_attribute(
                "/proc/self/fd/\(place.folder.raw.rawValue)/\(place.name)", Self.labelName, $0.baseAddress, $0.count)
        }
        guard result == 0 else {
            throw SystemCallError("label", "\(inner) below \(path)", Errno(rawValue: errno))
        }
    }

    /// A folder of the tree, and a name in it.
    struct Place: ~Copyable {
        let folder: OwnedDescriptor
        let name: String
    }

    /// The opened folder of an entry, and the entry's name in it.
    func parent(of inner: String) throws(SystemCallError) -> Place {
        let whole = FilePath(inner)
        guard let name = whole.lastComponent, name.kind == .regular else {
            throw SystemCallError("find", "\(inner) below \(path)", .invalidArgument)
        }
        let parentPath = whole.removingLastComponent().string
        return Place(
            folder: try open(parentPath.isEmpty ? "." : parentPath, .readOnly, options: [.directory]), name: name.string
        )
    }
}
