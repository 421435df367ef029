// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// Serves one disk, read-only, by the NBD protocol (fixed newstyle, structured replies, `base:allocation`) to several
/// connections at a time.
package final class NBDServer {
    package enum Address: Equatable, Sendable {
        /// A Unix socket that only the user can connect to; its folder must exist.
        case unix(FilePath)
        /// A loopback address. Port 0: any free port.
        case loopback(port: UInt16)
    }

    /// The address with the port in use.
    package let address: Address
    /// `nbd+unix:///?socket=PATH` or `nbd://127.0.0.1:PORT`.
    package var uri: String { fatalError("scaffold") }

    /// Binds, listens, and serves on threads of its own until `stop`.
    package init(_ disk: any ServedDisk, at address: Address) throws(SystemCallError) { fatalError("scaffold") }

    /// The number of clients that have connected so far.
    package var connectionCount: Int { fatalError("scaffold") }

    /// The error of the first failed read of the disk: a client gets only an error number.
    package var failure: BlockIOError? { fatalError("scaffold") }

    /// Closes the connections, joins the threads, and removes the socket.
    package func stop() {}
}
