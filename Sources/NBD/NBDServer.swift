// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// Serves one disk, read-only, by the NBD protocol (fixed newstyle, structured replies, `base:allocation`) to several
/// connections at a time.
package final class NBDServer: Sendable {
    package enum Address: Equatable, Sendable {
        /// A Unix socket that only the user can connect to; its folder must exist.
        case unix(FilePath)
        /// A loopback address. Port 0: any free port.
        case loopback(port: UInt16)
    }

    /// The address with the port in use.
    package let address: Address
    private let socket: NBDListener
    private let connections: NBDConnections
    private let acceptor: Monitor<WorkerThread?>

    /// How long a client may leave its connection unused while others find no place, in seconds.
    package static let usualIdleSeconds = 300.0

    /// Binds, listens, and serves on threads of its own until `stop`.
    package init(
        _ disk: any ServedDisk, at address: Address, idleSeconds: Double = NBDServer.usualIdleSeconds
    ) throws(SystemCallError) {
        let listener = try NBDListener(address)
        socket = listener
        self.address = listener.address
        let connections = NBDConnections(disk, listener.name, idleSeconds: idleSeconds)
        self.connections = connections
        acceptor = Monitor(try WorkerThread { Self.accept(listener, connections) })
    }

    deinit { stop() }

    /// `nbd+unix:///?socket=PATH` or `nbd://127.0.0.1:PORT`.
    package var uri: String {
        switch address {
        case .unix(let path): "nbd+unix:///?socket=\(Self.encoded(path.string))"
        case .loopback(let port): "nbd://127.0.0.1:\(port)"
        }
    }

    /// The number of clients that have connected so far.
    package var connectionCount: Int { connections.count }

    /// The error of the first failed read of the disk: a client gets only an error number. A read that the end of the
    /// command interrupts says nothing about the disk, and does not count.
    package var failure: BlockIOError? { connections.failure }

    /// Closes the connections, joins the threads, and removes the socket.
    package func stop() {
        let thread = acceptor.update { thread in
            defer { thread = nil }
            return thread
        }
        guard let thread else { return }
        connections.refuseMore()
        socket.end()
        thread.join()
        connections.endAll()
        socket.remove()
    }

    /// Body of the thread that waits for clients.
    private static func accept(_ listener: NBDListener, _ connections: NBDConnections) {
        while !connections.isEnding {
            do throws(SystemCallError) {
                connections.add(NBDSocket(try listener.accept(), "a client"))
            } catch {
                // Too many open files, or a client that left at once: the next one may be served.
                if !connections.isEnding { SystemFacts.sleep(seconds: 0.05) }
            }
        }
    }

    /// Percent-encodes a path for the query of a URI (RFC 3986 §2.1).
    private static func encoded(_ text: String) -> String {
        text.utf8.reduce(into: "") { result, byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"), UInt8(ascii: "/"):
                result.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                result += "%" + (digits.count == 1 ? "0" : "") + digits
            }
        }
    }
}

/// The listening socket of a server.
private final class NBDListener: Sendable {
    let address: NBDServer.Address
    let name: String
    private let socket: OwnedDescriptor
    /// The socket's file, so that no other process's is removed in its place.
    private let file: Stat?

    init(_ address: NBDServer.Address) throws(SystemCallError) {
        switch address {
        case .unix(let path):
            socket = try Sockets.listen(at: path)
            file = try? Stat(path, followTargetSymlink: false)
            self.address = address
            name = path.string
        case .loopback(let port):
            socket = try Sockets.listen(loopbackPort: port)
            file = nil
            let port = try Sockets.port(of: socket.raw)
            self.address = .loopback(port: port)
            name = "127.0.0.1:\(port)"
        }
    }

    func accept() throws(SystemCallError) -> OwnedDescriptor { try Sockets.accept(socket.raw, name) }

    /// Makes `accept` fail.
    func end() { Sockets.end(socket.raw) }

    /// Removes the socket's file.
    func remove() {
        guard case .unix(let path) = address, let file, let now = try? Stat(path, followTargetSymlink: false),
            now.deviceID == file.deviceID, now.inode == file.inode
        else { return }
        try? Files.remove(path)
    }
}

/// The connections of a server, with a thread each.
private final class NBDConnections: Sendable {
    private struct Connection {
        var socket: NBDSocket
        var thread: WorkerThread
        /// Whether its place was given to another client.
        var isLeaving = false
    }
    private struct State {
        var isEnding = false
        var count = 0
        var failure: BlockIOError?
        var open: [Int: Connection] = [:]
        /// The threads of connections that have ended.
        var ended: [WorkerThread] = []
    }
    /// Upper bound on connections in use: each may take a thread and a buffer of 32 MiB.
    private static let most = 16
    /// The time for the handshake, in seconds: a client that sends nothing must not keep its place.
    private static let handshakeSeconds = 10.0

    private let disk: any ServedDisk
    private let name: String
    private let idleSeconds: Double
    private let state = Monitor(State())

    init(_ disk: any ServedDisk, _ name: String, idleSeconds: Double) {
        self.disk = disk
        self.name = name
        self.idleSeconds = idleSeconds
    }

    var count: Int { state.update { $0.count } }
    var failure: BlockIOError? { state.update { $0.failure } }
    var isEnding: Bool { state.update { $0.isEnding } }

    func refuseMore() { state.update { $0.isEnding = true } }

    /// Serves a client, unless there are too many and none of them is idle; then it finds the connection closed.
    func add(_ socket: NBDSocket) {
        let ended = state.update { state in
            defer { state.ended = [] }
            guard !state.isEnding, hasPlace(&state) else {
                socket.end()
                return state.ended
            }
            let number = state.count
            // Without a thread (a limit of processes), the client finds the connection closed.
            guard let thread = try? WorkerThread({ [self] in serve(socket, number) }) else {
                socket.end()
                return state.ended
            }
            state.count += 1
            state.open[number] = Connection(socket: socket, thread: thread)
            return state.ended
        }
        for thread in ended { thread.join() }
    }

    /// Whether one more client can be served; ends the connection that was idle longest if its place is needed. Clients
    /// that hang, or were left open, must not keep all places for ever.
    private func hasPlace(_ state: inout State) -> Bool {
        let open = state.open.filter { !$0.value.isLeaving }
        guard open.count >= Self.most else { return true }
        let idle = open.mapValues(\.socket.waitingSeconds).max { $0.value < $1.value }
        guard let idle, idle.value >= idleSeconds else { return false }
        state.open[idle.key]?.isLeaving = true
        state.open[idle.key]?.socket.end()
        return true
    }

    /// Ends all connections.
    func endAll() {
        let threads = state.update { state in
            for connection in state.open.values { connection.socket.end() }
            return state.open.values.map(\.thread)
        }
        for thread in threads { thread.join() }
        // Threads that had ended before, and those that found themselves in the table until now.
        let ended = state.update { state in
            defer { state.ended = [] }
            return state.ended.filter { thread in !threads.contains { $0 === thread } }
        }
        for thread in ended { thread.join() }
    }

    /// Body of the thread of a connection. An error ends only this connection.
    private func serve(_ socket: NBDSocket, _ number: Int) {
        let session = NBDSession(disk, socket) { [self] error in
            guard error.errorNumber != Errno.interrupted.rawValue else { return }
            state.update { $0.failure = $0.failure ?? error }
        }
        socket.limit(seconds: Self.handshakeSeconds)
        if (try? session.negotiate()) == true {
            socket.limit(seconds: nil)
            try? session.transmit()
        }
        socket.end()
        state.update { state in
            guard let thread = state.open.removeValue(forKey: number)?.thread else { return }
            state.ended.append(thread)
        }
    }
}
