// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// A failed system call: the call, its subject and the reason.
package struct SystemCallError: Error, Sendable, CustomStringConvertible {
    /// The attempted action, as the middle of a sentence: "open", "mount /dev/sda1 on".
    package var action: String
    /// The path or object of the action.
    package var subject: String
    package var errno: Errno

    package init(_ action: String, _ subject: String, _ errno: Errno) {
        self.action = action
        self.subject = subject
        self.errno = errno
    }

    package var description: String { "could not \(action) \(subject): \(errno.sentence)" }
}

extension Errno {
    /// The reason in words, with the constant's name where users search for it.
    package var sentence: String {
        switch self {
        case .ioError: "the disk reported a medium error (EIO)"
        case .noSpace: "there is no space left (ENOSPC)"
        case .resourceBusy: "it is in use (EBUSY)"
        case .permissionDenied, .notPermitted: "permission denied (are you root?)"
        case .noSuchFileOrDirectory: "it does not exist"
        case .readOnlyFileSystem: "it is read-only (EROFS)"
        case .noSuchAddressOrDevice, .operationNotSupportedByDevice:
            "the device is gone (\(rawValue == 6 ? "ENXIO" : "ENODEV"))"
        case .noMemory: "there is not enough memory, or a limit of this process (`ulimit -v`) is too low (ENOMEM)"
        case .resourceTemporarilyUnavailable: "a limit of memory or of processes is reached (EAGAIN)"
        case .badFileDescriptor: "it is closed (EBADF)"
        case .fileTooLarge:
            "the file would be larger than its filesystem or a limit of this process (`ulimit -f`) allows (EFBIG)"
        default: "\(self) (errno \(rawValue))"
        }
    }
}

/// Turns the `-errno` convention of CLinuxShims into an error.
@discardableResult
func check(
    _ result: Int32, _ action: @autoclosure () -> String, _ subject: @autoclosure () -> String
) throws(SystemCallError) -> Int32 {
    guard result >= 0 else { throw SystemCallError(action(), subject(), Errno(rawValue: -result)) }
    return result
}
