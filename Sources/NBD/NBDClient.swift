// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// A disk served by another NBD server on a Unix socket: a storage daemon's. Safe for calls from several threads.
package final class NBDClient: ServedDisk {
    package let name: String
    package let byteCount: UInt64
    package var logicalSectorSize: Int { 512 }

    private struct Connection {
        var socket: NBDSocket
        var conversation: NBDConversation
    }
    private struct Pool {
        /// Connections that no thread uses.
        var idle: [Connection] = []
        /// The number of connections in use.
        var busy = 0
    }
    private static let mostConnections = 4
    /// The time for connecting and the handshake, in seconds.
    private static let handshakeSeconds = 30.0
    /// The time for the answer to a request, in seconds: a disk below that retries bad sectors takes minutes.
    package static let usualSeconds = 900.0

    private let socket: FilePath
    private let export: String
    private let seconds: Double
    private let pool: Monitor<Pool>
    /// A wait for the server is reported like one for a disk, and ends with the command.
    private let calls: PendingCalls

    /// - Parameters:
    ///   - export: the name of the export.
    ///   - name: for messages.
    ///   - seconds: the time for the answer to a request; after it the read fails.
    package init(
        socket: FilePath, export: String, name: String, seconds: Double = NBDClient.usualSeconds
    ) throws(BlockIOError) {
        self.socket = socket
        self.export = export
        self.name = name
        self.seconds = seconds
        do throws(NBDError) {
            let first = try Self.connect(socket, export)
            byteCount = first.conversation.byteCount
            calls = PendingCalls(name, on: first.socket.descriptor)
            pool = Monitor(Pool(idle: [first]))
        } catch { throw Self.failure(error, name, 0, 0) }
    }

    deinit {
        for connection in pool.update({ $0.idle }) { connection.conversation.disconnect() }
    }

    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let count = try checkedRange(at: offset, count: UInt64(buffer.count)).byteCount
        do throws(NBDError) {
            try withConversation { (conversation) throws(NBDError) in
                unsafe try conversation.read(into: buffer, at: offset)
            }
        } catch { throw Self.failure(error, name, offset, count) }
    }

    package func extents(in range: ByteRange) throws(BlockIOError) -> [DiskExtent] {
        try checkedRange(at: range.lowerBound, count: range.byteCount)
        do throws(NBDError) {
            return try withConversation { (conversation) throws(NBDError) in try conversation.extents(in: range) }
        } catch { throw Self.failure(error, name, range.lowerBound, range.byteCount) }
    }

    /// Runs `body` with a connection of its own; waits while all are in use.
    private func withConversation<Value>(
        _ body: (NBDConversation) throws(NBDError) -> Value
    ) throws(NBDError) -> Value {
        let idle = pool.wait { pool -> Connection?? in
            guard pool.busy < Self.mostConnections else { return nil }
            pool.busy += 1
            return .some(pool.idle.popLast())
        }
        var usable: Connection?
        defer {
            pool.update {
                $0.busy -= 1
                if let usable { $0.idle.append(usable) }
            }
        }
        let connection = if let idle { idle } else { try Self.connect(socket, export) }
        guard connection.conversation.byteCount == byteCount else { throw .invalid("its disk has another length now") }
        connection.socket.limit(seconds: seconds)
        do throws(NBDError) {
            let value = try calls.during(.read) { () throws(NBDError) in try body(connection.conversation) }
            usable = connection
            return value
        } catch {
            // After any other error, the place in the conversation is lost.
            if case .refused = error { usable = connection }
            throw error
        }
    }

    private static func connect(_ path: FilePath, _ export: String) throws(NBDError) -> Connection {
        let socket: NBDSocket
        do throws(SystemCallError) { socket = NBDSocket(try Sockets.connect(to: path), path.string) } catch {
            throw .system(error)
        }
        socket.limit(seconds: handshakeSeconds)
        return Connection(socket: socket, conversation: try NBDConversation(socket, export: export))
    }

    private static func failure(_ error: NBDError, _ name: String, _ offset: UInt64, _ count: UInt64) -> BlockIOError {
        let number: Int32 =
            switch error {
            case .refused(let number, _): Int32(truncatingIfNeeded: number)
            case .system(let call): call.errno.rawValue
            case .closed, .invalid: Errno.ioError.rawValue
            }
        return BlockIOError(
            .read, name: name, offset: offset, byteCount: count, errorNumber: number, reason: "\(error)")
    }
}
