// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import SystemPackage

/// Excludes other processes of this machine from a folder for a moment. The lock ends with its
/// process, however that ends.
package final class FolderLock: Sendable {
    private let descriptor: OwnedDescriptor

    /// Waits until no other process holds the lock.
    ///
    /// The corresponding C function is `flock`; a filesystem without it locks nothing.
    package init(_ folder: FilePath, _ cancellation: Cancellation) throws(SystemCallError) {
        descriptor = try OwnedDescriptor.open(folder, .readOnly, options: [.directory])
        // A blocking call would miss a cancellation that is requested just before it.
        while flock(descriptor.raw.rawValue, LOCK_EX | LOCK_NB) != 0 {
            let reason = Errno(rawValue: errno)
            guard reason == .wouldBlock || reason == .interrupted else { return }
            if cancellation.isRequested { throw SystemCallError("lock", folder.string, .interrupted) }
            SystemFacts.sleep(seconds: 0.05, unless: cancellation)
        }
    }

    /// Takes the lock; `nil` if another process holds it, the folder cannot be locked, or the path is a link.
    package init?(ifFree folder: FilePath) {
        guard let opened = try? OwnedDescriptor.open(folder, .readOnly, options: [.directory, .noFollow]),
            flock(opened.raw.rawValue, LOCK_EX | LOCK_NB) == 0
        else { return nil }
        descriptor = opened
    }

    /// A path to the opened folder, even if its name means another one by now.
    package var path: FilePath { FilePath("/proc/self/fd/\(descriptor.raw.rawValue)") }

    /// Releases the lock, as the last reference does.
    package func release() { _ = flock(descriptor.raw.rawValue, LOCK_UN) }
}
