// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import SystemPackage

extension Files {
    /// Sets the permissions of a file or folder, independent of the umask.
    ///
    /// The corresponding C function is `chmod`.
    package static func setPermissions(_ path: FilePath, _ permissions: FilePermissions) throws(SystemCallError) {
        guard chmod(path.string, permissions.rawValue) == 0 else {
            throw SystemCallError("set the permissions of", path.string, Errno(rawValue: errno))
        }
    }
}
