// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import Glibc
import SystemPackage

/// Stream sockets of this machine: Unix sockets, and TCP on the loopback address.
package enum Sockets {
    /// Connections that wait to be accepted; the kernel refuses more.
    private static let backlog: Int32 = 16

    /// Listens on a Unix socket that only the user can connect to. A socket that no process listens on is replaced.
    ///
    /// The corresponding C functions are `socket`, `fchmod`, `bind` and `listen`.
    /// - Throws: with `addressInUse` if a process listens there; with `fileExists` if the path is anything but a socket.
    package static func listen(at path: FilePath) throws(SystemCallError) -> OwnedDescriptor {
        // Two processes that find the same dead socket must not both replace it. The folder of a new socket may be
        // locked for as long as it is in use: it is not waited for, as a second bind of one name fails.
        let folder = path.removingLastComponent().isEmpty ? "." : path.removingLastComponent()
        let isNew = (try? Stat(path, followTargetSymlink: false)) == nil
        let lock = isNew ? FolderLock(ifFree: folder) : try FolderLock(folder, Cancellation())
        defer { lock?.release() }
        if let status = try? Stat(path, followTargetSymlink: false) {
            guard status.type == .socket else { throw SystemCallError("listen on", path.string, .fileExists) }
            guard !isListened(at: path) else { throw SystemCallError("listen on", path.string, .addressInUse) }
            try Files.remove(path)
        }
        let socket = try make(AF_UNIX, path.string)
        // unix(7): the socket is made with the permissions of the descriptor's inode, so there is no moment at which
        // other users could connect.
        guard fchmod(socket.raw.rawValue, 0o600) == 0 else { throw failure("listen on", path.string) }
        let result = try withUnixAddress(path) { bind(socket.raw.rawValue, $0, $1) }
        guard result == 0, Glibc.listen(socket.raw.rawValue, backlog) == 0 else {
            throw failure("listen on", path.string)
        }
        return socket
    }

    /// Listens on a TCP port of 127.0.0.1.
    ///
    /// The corresponding C functions are `socket`, `bind` and `listen`.
    /// - Parameter port: 0 for any free one; see `port(of:)`.
    package static func listen(loopbackPort port: UInt16) throws(SystemCallError) -> OwnedDescriptor {
        let name = "127.0.0.1:\(port)"
        let socket = try make(AF_INET, name)
        // A port whose last connections were closed a moment ago is free.
        var yes: Int32 = 1
        setsockopt(socket.raw.rawValue, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let isBound = withUnsafePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(socket.raw.rawValue, address, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
                    && Glibc.listen(socket.raw.rawValue, backlog) == 0
            }
        }
        guard isBound else { throw failure("listen on", name) }
        return socket
    }

    /// The port of a TCP socket.
    ///
    /// The corresponding C function is `getsockname`.
    package static func port(of socket: FileDescriptor) throws(SystemCallError) -> UInt16 {
        var address = sockaddr_in()
        var byteCount = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getsockname(socket.rawValue, $0, &byteCount)
            }
        }
        guard result == 0 else { throw failure("find the port of", "a socket") }
        return UInt16(bigEndian: address.sin_port)
    }

    /// Connects to a Unix socket.
    ///
    /// The corresponding C functions are `socket` and `connect`.
    package static func connect(to path: FilePath) throws(SystemCallError) -> OwnedDescriptor {
        let socket = try make(AF_UNIX, path.string)
        while true {
            let result = try withUnixAddress(path) { Glibc.connect(socket.raw.rawValue, $0, $1) }
            if result == 0 { return socket }
            guard errno == EINTR else { throw failure("connect to", path.string) }
        }
    }

    /// The next connection; waits for it.
    ///
    /// The corresponding C function is `accept4`.
    package static func accept(_ socket: FileDescriptor, _ name: String) throws(SystemCallError) -> OwnedDescriptor {
        while true {
            let raw = rf_accept(socket.rawValue)
            if raw >= 0 {
                // An answer is never held back for a larger packet; a Unix socket refuses the option.
                var yes: Int32 = 1
                setsockopt(raw, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
                return OwnedDescriptor(owning: FileDescriptor(rawValue: raw))
            }
            guard raw == -EINTR else {
                throw SystemCallError("accept a connection to", name, Errno(rawValue: -raw))
            }
        }
    }

    /// Ends both directions: calls that wait on the socket return, in this process and at the other end.
    ///
    /// The corresponding C function is `shutdown`.
    package static func end(_ socket: FileDescriptor) { _ = shutdown(socket.rawValue, Int32(SHUT_RDWR)) }

    /// Reads at least one byte.
    ///
    /// The corresponding C functions are `recv` and `poll`.
    /// - Parameter deadline: on the clock of `SystemFacts.monotonicSeconds`; `nil` to wait without limit.
    /// - Returns: the number of bytes; 0 if the other end has closed.
    /// - Throws: with `timedOut` after the deadline.
    package static func receive(
        _ socket: FileDescriptor, _ name: String, into buffer: UnsafeMutableRawBufferPointer, deadline: Double?
    ) throws(SystemCallError) -> Int {
        while true {
            let count = recv(socket.rawValue, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
            if count >= 0 { return count }
            try wait(socket, Int16(POLLIN), "read from", name, deadline)
        }
    }

    /// Writes at least one byte.
    ///
    /// The corresponding C functions are `send` and `poll`.
    package static func send(
        _ socket: FileDescriptor, _ name: String, _ bytes: UnsafeRawBufferPointer, deadline: Double?
    ) throws(SystemCallError) -> Int {
        let flags = Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)
        while true {
            let count = Glibc.send(socket.rawValue, bytes.baseAddress, bytes.count, flags)
            if count >= 0 { return count }
            try wait(socket, Int16(POLLOUT), "write to", name, deadline)
        }
    }

    /// After a call that failed: waits until it can be repeated.
    private static func wait(
        _ socket: FileDescriptor, _ events: Int16, _ action: String, _ name: String, _ deadline: Double?
    ) throws(SystemCallError) {
        if errno == EINTR { return }
        guard errno == EAGAIN || errno == EWOULDBLOCK else { throw failure(action, name) }
        var entry = pollfd(fd: socket.rawValue, events: events, revents: 0)
        var milliseconds: Int32 = -1
        if let deadline {
            let rest = deadline - SystemFacts.monotonicSeconds()
            guard rest > 0 else { throw SystemCallError(action, name, .timedOut) }
            milliseconds = Int32(min(rest * 1000, 1e6).rounded(.up))
        }
        guard poll(&entry, 1, milliseconds) >= 0 || errno == EINTR else { throw failure(action, name) }
    }

    /// Whether a process listens on a Unix socket. A refused connection is the only proof that none does.
    private static func isListened(at path: FilePath) -> Bool {
        do throws(SystemCallError) { _ = try connect(to: path) } catch { return error.errno != .connectionRefused }
        return true
    }

    private static func make(_ family: Int32, _ name: String) throws(SystemCallError) -> OwnedDescriptor {
        let raw = socket(family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard raw >= 0 else { throw failure("make a socket for", name) }
        return OwnedDescriptor(owning: FileDescriptor(rawValue: raw))
    }

    private static func withUnixAddress<Result>(
        _ path: FilePath, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) throws(SystemCallError) -> Result {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.string.utf8)
        // 107 bytes and a NUL (unix(7)).
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw SystemCallError("use the socket", path.string, .fileNameTooLong)
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        return withUnsafePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }

    private static func failure(_ action: String, _ name: String) -> SystemCallError {
        SystemCallError(action, name, Errno(rawValue: errno))
    }
}
