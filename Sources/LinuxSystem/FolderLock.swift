// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import SystemPackage

/// Keeps other processes of this machine out of a folder for a moment. It goes with its process, however that ends.
package final class FolderLock: Sendable {
    private let descriptor: OwnedDescriptor

    /// Waits until nobody else has it.
    ///
    /// The corresponding C function is `flock`; a filesystem without it locks nothing.
    package init(_ folder: FilePath, _ cancellation: Cancellation) throws(SystemCallError) {
        descriptor = try OwnedDescriptor.open(folder, .readOnly, options: [.directory])
        while flock(descriptor.raw.rawValue, LOCK_EX) != 0 {
            let reason = Errno(rawValue: errno)
            if reason == .interrupted, !cancellation.isRequested { continue }
            if reason == .interrupted { throw SystemCallError("lock", folder.string, reason) }
            return
        }
    }

    /// Takes it; `nil` where somebody else has it, where it cannot be locked, and where the name is that of a link.
    package init?(ifFree folder: FilePath) {
        guard let opened = try? OwnedDescriptor.open(folder, .readOnly, options: [.directory, .noFollow]),
            flock(opened.raw.rawValue, LOCK_EX | LOCK_NB) == 0
        else { return nil }
        descriptor = opened
    }

    /// A path to the folder that was opened, whatever its name means by now.
    package var path: FilePath { FilePath("/proc/self/fd/\(descriptor.raw.rawValue)") }

    /// Lets others in. (Also when the last reference goes.)
    package func release() { _ = flock(descriptor.raw.rawValue, LOCK_UN) }
}
