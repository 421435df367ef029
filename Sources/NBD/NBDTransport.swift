// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// Why a conversation by NBD ended.
package enum NBDError: Error, Sendable, CustomStringConvertible {
    /// The other side closed the connection.
    case closed
    /// The other side broke the protocol; the text is half a sentence.
    case invalid(String)
    /// The server answered with an error number.
    case refused(UInt32, String)
    case system(SystemCallError)

    package var description: String {
        switch self {
        case .closed: "the connection was closed"
        case .invalid(let what): "the other side broke the NBD protocol: \(what)"
        case .refused(let number, let text):
            "the server reported the error \(Errno(rawValue: Int32(truncatingIfNeeded: number)))"
                + (text.isEmpty ? "" : " (\(text))")
        case .system(let error): error.description
        }
    }
}

/// The bytes of a connection: a socket, or a test's memory.
package protocol NBDTransport: AnyObject {
    /// Fills all of `buffer`.
    func receive(into buffer: UnsafeMutableRawBufferPointer) throws(NBDError)
    /// Sends all of `bytes`.
    func send(_ bytes: UnsafeRawBufferPointer) throws(NBDError)
}

extension NBDTransport {
    func receive(_ count: Int) throws(NBDError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let result = unsafe bytes.withUnsafeMutableBytes { buffer in
            Result { () throws(NBDError) in unsafe try receive(into: buffer) }
        }
        try result.get()
        return bytes
    }

    func receiveNumber<T: FixedWidthInteger>(_ type: T.Type = T.self) throws(NBDError) -> T {
        try receive(T.bitWidth / 8).reduce(0) { $0 << 8 | T(truncatingIfNeeded: $1) }
    }

    func send(_ bytes: [UInt8]) throws(NBDError) {
        let result = unsafe bytes.withUnsafeBytes { bytes in
            Result { () throws(NBDError) in unsafe try send(bytes) }
        }
        try result.get()
    }

    /// Receives and drops bytes.
    func skip(_ count: Int) throws(NBDError) {
        var rest = count
        while rest > 0 {
            let part = min(rest, 64 << 10)
            _ = try receive(part)
            rest -= part
        }
    }
}

/// A connected socket. One thread talks; any thread may `end` it.
final class NBDSocket: NBDTransport, Sendable {
    private let socket: OwnedDescriptor
    private let name: String
    /// On the clock of `SystemFacts.monotonicSeconds`.
    private struct Times {
        var deadline: Double?
        /// The start of the call that now waits for the other side.
        var waitsSince: Double?
    }
    private let times = Monitor(Times())

    init(_ socket: consuming OwnedDescriptor, _ name: String) {
        self.socket = socket
        self.name = name
    }

    var descriptor: FileDescriptor { socket.raw }

    /// Fails calls that take longer from now on; `nil` for no limit.
    func limit(seconds: Double?) {
        times.update { $0.deadline = seconds.map { SystemFacts.monotonicSeconds() + $0 } }
    }

    /// How long the current call has waited for the other side, in seconds; 0 without one. From any thread.
    var waitingSeconds: Double {
        times.update { $0.waitsSince.map { SystemFacts.monotonicSeconds() - $0 } ?? 0 }
    }

    /// Notes the start of a call.
    /// - Returns: its deadline.
    private func begin() -> Double? {
        times.update {
            $0.waitsSince = SystemFacts.monotonicSeconds()
            return $0.deadline
        }
    }

    private func finish() { times.update { $0.waitsSince = nil } }

    /// Makes the other side's calls, and those of this one, return.
    func end() { Sockets.end(socket.raw) }

    func receive(into buffer: UnsafeMutableRawBufferPointer) throws(NBDError) {
        let limit = begin()
        defer { finish() }
        var done = 0
        while done < buffer.count {
            let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
            let count: Int
            do throws(SystemCallError) {
                count = unsafe try Sockets.receive(socket.raw, name, into: rest, deadline: limit)
            } catch { throw error.errno == .connectionReset ? .closed : .system(error) }
            guard count > 0 else { throw .closed }
            done += count
        }
    }

    func send(_ bytes: UnsafeRawBufferPointer) throws(NBDError) {
        let limit = begin()
        defer { finish() }
        var done = 0
        while done < bytes.count {
            let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[done...])
            do throws(SystemCallError) {
                done += unsafe try Sockets.send(socket.raw, name, rest, deadline: limit)
            } catch { throw error.errno == .brokenPipe || error.errno == .connectionReset ? .closed : .system(error) }
        }
    }
}
