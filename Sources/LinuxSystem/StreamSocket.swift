// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import SystemPackage

extension OwnedDescriptor {
    /// Two ends of a stream in both directions, for two owners.
    ///
    /// The corresponding C function is `socketpair(AF_UNIX)`.
    package static func socketPair() throws(SystemCallError) -> (own: FileDescriptor, other: FileDescriptor) {
        var ends: [Int32] = [-1, -1]
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
            throw SystemCallError("make", "a pair of sockets", Errno(rawValue: errno))
        }
        return (FileDescriptor(rawValue: ends[0]), FileDescriptor(rawValue: ends[1]))
    }
}

extension FileDescriptor {
    /// Ends a stream in both directions, for all who hold it.
    ///
    /// The corresponding C function is `shutdown`.
    package func endStream() { _ = shutdown(rawValue, Int32(SHUT_RDWR)) }

    /// Writes all of `bytes` to a stream; the end of its reader is an error (EPIPE), and no signal.
    ///
    /// The corresponding C functions are `send(MSG_NOSIGNAL)`, and `write` for a device.
    package func sendAll(_ bytes: [UInt8]) throws(Errno) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { all in
                let rest = UnsafeRawBufferPointer(rebasing: all[sent...])
                let count = send(rawValue, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL))
                return count < 0 && errno == ENOTSOCK ? Glibc.write(rawValue, rest.baseAddress, rest.count) : count
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw count == 0 ? .ioError : Errno(rawValue: errno) }
            sent += count
        }
    }
}
