// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import SystemPackage

extension Files {
    /// A new unnamed file in a folder, removed with its last descriptor unless it is given a name; `nil` if the
    /// filesystem does not support such files, or giving them a name later.
    ///
    /// The corresponding C function is `open(O_TMPFILE)`.
    package static func openUnnamed(in folder: FilePath, _ permissions: FilePermissions) -> OwnedDescriptor? {
        let raw = PendingCalls(path: folder.string).during(.open) {
            rf_open_unnamed(folder.string, UInt32(permissions.rawValue))
        }
        guard raw >= 0 else { return nil }
        let file = OwnedDescriptor(owning: FileDescriptor(rawValue: raw))
        guard exists(FilePath("/proc/self/fd/\(raw)")) else { return nil }
        return file
    }

    /// A new file in a folder, removed with its last descriptor, on any filesystem.
    ///
    /// The corresponding C functions are `open(O_TMPFILE)` and `unlink`.
    package static func openNameless(in folder: FilePath) throws(SystemCallError) -> OwnedDescriptor {
        if let file = openUnnamed(in: folder, .ownerReadWrite) { return file }
        let path = folder.appending(".reforge-\(SystemFacts.processID)-\(UInt64.random(in: 0...UInt64.max))")
        let file = try OwnedDescriptor.open(
            path, .readWrite, options: [.create, .exclusiveCreate, .noFollow], permissions: .ownerReadWrite)
        try remove(path)
        return file
    }

    /// Gives an unnamed file a name that does not exist yet.
    ///
    /// The corresponding C function is `linkat`.
    package static func link(_ descriptor: FileDescriptor, as path: FilePath) throws(SystemCallError) {
        try check(changing(path) { rf_link_unnamed(descriptor.rawValue, path.string) }, "create", path.string)
    }

    /// Whether a path (links not followed) is that of an opened file.
    package static func isSame(_ descriptor: FileDescriptor, _ path: FilePath) -> Bool {
        guard let opened = try? Stat(descriptor), let named = try? Stat(path, followTargetSymlink: false) else {
            return false
        }
        return opened.deviceID == named.deviceID && opened.inode == named.inode
    }
}
