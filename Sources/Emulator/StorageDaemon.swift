// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A `qemu-storage-daemon` that exports one disk, with its socket in a private folder. It ends with the object, and with
/// this process.
package final class StorageDaemon {
    package enum Export: Sendable {
        /// By NBD, read-only, on `socket`, under the name `disk`.
        case nbd
        /// As a file with the bytes of the disk. `mountPoint` must be an existing regular file.
        case fuse(mountPoint: FilePath, isWritable: Bool)
    }

    /// The NBD socket.
    package let socket: FilePath

    /// Starts the daemon and waits until its export can be used.
    /// - Parameters:
    ///   - nodes: JSON objects, one a `--blockdev`, each after the nodes it refers to. The last one has the node name
    ///     `disk`, and is exported.
    package init(nodes: [String], export: Export, cancellation: Cancellation) throws(EmulatorError) {
        fatalError("scaffold")
    }

    /// The message of a daemon that has ended by itself; `nil` while it runs.
    package var failure: String? { fatalError("scaffold") }

    /// Ends the daemon, after it has written everything, and removes its folder.
    package func stop() throws(EmulatorError) {}
}
