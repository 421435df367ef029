// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import SystemPackage

// Builds a small /dev: confined programs see only the devices meant for them.
extension Files {
    /// Makes a device node of the same type and number as the device at `model`.
    ///
    /// The corresponding C function is `mknod`.
    package static func makeDeviceNode(
        _ path: FilePath, like model: FilePath, permissions: FilePermissions = [.ownerReadWrite, .groupReadWrite]
    ) throws(SystemCallError) {
        let status: Stat
        do { status = try Stat(model) } catch { throw SystemCallError("inspect", model.string, error) }
        let type: mode_t
        switch status.type {
        case .blockSpecial: type = S_IFBLK
        case .characterSpecial: type = S_IFCHR
        default: throw SystemCallError("copy the device", model.string, .notBlockDevice)
        }
        guard mknod(path.string, type | permissions.rawValue, dev_t(status.specialDeviceID.rawValue)) == 0 else {
            throw SystemCallError("create", path.string, Errno(rawValue: errno))
        }
        // Independent of the umask.
        guard chmod(path.string, permissions.rawValue) == 0 else {
            throw SystemCallError("set the permissions of", path.string, Errno(rawValue: errno))
        }
    }
}
