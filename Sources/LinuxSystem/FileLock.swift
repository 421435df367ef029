// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import SystemPackage

/// Byte-range locks that belong to an open file description (fcntl(2)): they are released with the last copy of the
/// descriptor, however its process ends. Advisory: they bind only programs that check, as Reforge and QEMU do.
///
/// The corresponding C functions are `fcntl(F_OFD_SETLK)` and `fcntl(F_OFD_GETLK)`.
package enum FileLock {
    /// The answer to a lock request.
    package enum Answer: Equatable, Sendable {
        /// The lock was taken.
        case granted
        /// Another open file description holds a conflicting lock.
        case held
        /// The filesystem has no locks.
        case unsupported
    }

    /// A conflicting lock of another process.
    package struct Holder: Equatable, Sendable {
        /// Its first byte.
        package var start: UInt64
        /// How many bytes; 0 to the end of the file.
        package var byteCount: UInt64

        /// Whether it is a lock of QEMU (block/file-posix.c: bytes 100 to 103 for its own access, 200 to 203 for the
        /// access that it denies to others), or of a capture, which asks as QEMU does.
        package var isQEMU: Bool { byteCount > 0 && byteCount <= 4 && [1, 2].contains(start / 100) && start % 100 < 4 }
    }

    /// Takes a lock without waiting.
    /// - Parameter byteCount: 0 means to the end of the file, wherever that will be.
    /// - Throws: failures that are neither an answer nor a missing feature.
    package static func take(
        _ descriptor: FileDescriptor, forWriting: Bool, start: UInt64 = 0, byteCount: UInt64 = 0
    ) throws(SystemCallError) -> Answer {
        let result = rf_lock(descriptor.rawValue, forWriting ? 1 : 0, start, byteCount)
        guard result < 0 else { return .granted }
        guard let answer = answer(to: Errno(rawValue: -result)) else {
            throw SystemCallError("lock", "a file", Errno(rawValue: -result))
        }
        return answer
    }

    /// The answer that an error code means; `nil` for a failure.
    static func answer(to errno: Errno) -> Answer? {
        switch errno {
        case .resourceTemporarilyUnavailable, .permissionDenied: .held
        // ENOLCK: no lock manager (NFS); EOPNOTSUPP and ENOSYS: the server or driver has none; EINVAL: before Linux
        // 3.15.
        case .noLocks, .notSupportedOnSocket, .noFunction, .invalidArgument: .unsupported
        default: nil
        }
    }

    /// The first conflicting lock of another process; `nil` without one, or where that cannot be determined.
    package static func holder(
        _ descriptor: FileDescriptor, forWriting: Bool, start: UInt64 = 0, byteCount: UInt64 = 0
    ) -> Holder? {
        var (heldStart, heldByteCount) = (start, byteCount)
        guard rf_lock_holder(descriptor.rawValue, forWriting ? 1 : 0, &heldStart, &heldByteCount) == 1 else {
            return nil
        }
        return Holder(start: heldStart, byteCount: heldByteCount)
    }
}
