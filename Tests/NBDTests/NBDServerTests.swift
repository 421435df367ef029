// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import NBD

/// Server and client through real sockets.
@Suite struct NBDServerTests {
    let scratch: ScratchFolder
    let disk = SampleServedDisk()
    var path: FilePath { scratch.path.appending("s") }

    init() throws { scratch = try ScratchFolder() }

    private func client() throws -> NBDClient { try NBDClient(socket: path, export: "disk", name: "client") }

    @Test func aClientReadsTheDisk() throws {
        let server = try NBDServer(disk, at: .unix(path))
        defer { server.stop() }
        #expect(server.uri == "nbd+unix:///?socket=\(path)")
        #expect(try Stat(path).permissions == [.ownerReadWrite])
        let client = try client()
        #expect(client.byteCount == disk.byteCount)
        #expect(try client.readBytes(at: 0, count: disk.bytes.count) == disk.bytes)
        var random = SeededGenerator(seed: Sample.seed())
        for _ in 0..<200 {
            let start = Int.random(in: 0..<disk.bytes.count, using: &random)
            let count = Int.random(in: 0...min(100_000, disk.bytes.count - start), using: &random)
            #expect(try client.readBytes(at: UInt64(start), count: count) == Array(disk.bytes[start..<start + count]))
        }
        let extents = try client.extents(in: 0..<disk.byteCount)
        #expect(extents.map(\.kind) == [.data, .zero, .data, .zero, .data])
        #expect(extents.map(\.byteCount) == disk.kinds.map(\.byteCount))
        #expect(server.connectionCount == 1)
        #expect(throws: BlockIOError.self) { try client.readBytes(at: disk.byteCount, count: 1) }
        #expect(throws: BlockIOError.self) { try client.extents(in: 5..<5) }
    }

    /// Linux's client knows only simple replies.
    @Test func aConnectionForTheKernelHasSimpleReplies() throws {
        let server = try NBDServer(disk, at: .unix(path))
        defer { server.stop() }
        let (socket, byteCount) = try server.kernelConnection()
        #expect(byteCount == disk.byteCount)
        for (cookie, offset) in [(UInt64(7), 512), (8, 0)] {
            try socket.send(NBDRequest(.read, cookie: cookie, offset: UInt64(offset), byteCount: 4096).bytes)
            #expect(try socket.receiveNumber(UInt32.self) == NBDWire.simpleReplyMagic)
            #expect(try socket.receiveNumber(UInt32.self) == 0)
            #expect(try socket.receiveNumber(UInt64.self) == cookie)
            #expect(try socket.receive(4096) == Array(disk.bytes[offset..<offset + 4096]))
        }
    }

    @Test func severalThreadsReadAtOnce() throws {
        let server = try NBDServer(disk, at: .unix(path))
        defer { server.stop() }
        let client = try client()
        let wrong = Monitor(0)
        // All four connections are in a read before one is answered.
        disk.gate.update { $0 = false }
        let threads = try (0..<6).map { number in
            try WorkerThread { [disk] in
                let start = number * 40_000
                let bytes = try? client.readBytes(at: UInt64(start), count: 40_000)
                if bytes != Array(disk.bytes[start..<start + 40_000]) { wrong.update { $0 += 1 } }
            }
        }
        _ = disk.readCount.wait { $0 >= 4 ? true : nil }
        disk.gate.update { $0 = true }
        for thread in threads { thread.join() }
        #expect(wrong.update { $0 } == 0)
        #expect(server.connectionCount == 4)
    }

    /// A storage daemon that hangs must not keep a command for ever.
    @Test func aServerThatDoesNotAnswerIsGivenUp() throws {
        let server = try NBDServer(disk, at: .unix(path))
        defer { server.stop() }
        let client = try NBDClient(socket: path, export: "disk", name: "client", seconds: 0.3)
        disk.gate.update { $0 = false }
        defer { disk.gate.update { $0 = true } }
        do {
            _ = try client.readBytes(at: 0, count: 4096)
            Issue.record("it was read")
        } catch { #expect((error as BlockIOError).errorNumber == Errno.timedOut.rawValue) }
        // Its late answer must not be taken for that of the next request.
        disk.gate.update { $0 = true }
        #expect(try client.readBytes(at: 5000, count: 4096) == Array(disk.bytes[5000..<9096]))
        #expect(server.connectionCount == 2)
    }

    @Test func aFailedReadIsKept() throws {
        let server = try NBDServer(disk, at: .unix(path))
        defer { server.stop() }
        disk.memory.makeUnreadable(1000..<1512)
        let client = try client()
        #expect(server.failure == nil)
        do {
            _ = try client.readBytes(at: 0, count: 4096)
            Issue.record("it was read")
        } catch { #expect((error as BlockIOError).errorNumber == Errno.ioError.rawValue) }
        #expect(server.failure?.offset == 0)
        // The connection is used again.
        #expect(try client.readBytes(at: 2000, count: 10) == Array(disk.bytes[2000..<2010]))
        #expect(server.connectionCount == 1)
    }

    /// Ctrl-C during a read of a remote repository is the normal end of a server.
    @Test func anInterruptedReadIsNoFailureOfTheDisk() throws {
        struct Interrupted: ServedDisk {
            let byteCount: UInt64 = 1 << 20
            let logicalSectorSize = 512
            let name = "interrupted"
            func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
                throw BlockIOError(
                    .read, name: name, offset: offset, byteCount: UInt64(buffer.count),
                    errorNumber: Errno.interrupted.rawValue, reason: "interrupted")
            }
            func extents(in range: ByteRange) throws(BlockIOError) -> [DiskExtent] {
                [DiskExtent(.data, byteCount: range.byteCount)]
            }
        }
        let server = try NBDServer(Interrupted(), at: .unix(path))
        defer { server.stop() }
        let client = try client()
        #expect(throws: BlockIOError.self) { try client.readBytes(at: 0, count: 512) }
        #expect(server.failure == nil)
    }

    @Test func aDeadServerEndsReads() throws {
        let server = try NBDServer(disk, at: .unix(path))
        let client = try client()
        server.stop()
        #expect(throws: BlockIOError.self) { try client.readBytes(at: 0, count: 512) }
        #expect(!Files.exists(path))
        #expect(throws: BlockIOError.self) { try self.client() }
    }

    /// Whatever sixteen clients send or do not read, others are served, and `stop` returns.
    @Test func badClientsBlockNoOthers() throws {
        let server = try NBDServer(disk, at: .unix(path))
        var random = SeededGenerator(seed: Sample.seed())
        var silent: [NBDSocket] = []
        for number in 0..<14 {
            let socket = NBDSocket(try Sockets.connect(to: path), "test")
            if number % 2 == 0 {
                // Asks for much and reads nothing.
                try socket.send(WireBytes.handshake)
                for _ in 0..<50 { try socket.send(WireBytes.request(0, flags: 4, byteCount: UInt32(disk.byteCount))) }
            } else if number % 3 == 0 {
                try socket.send((0..<50).map { _ in UInt8(truncatingIfNeeded: random.next()) })
            }
            silent.append(socket)
        }
        let client = try client()
        #expect(try client.readBytes(at: 0, count: 1000) == Array(disk.bytes[0..<1000]))
        server.stop()
        #expect(throws: BlockIOError.self) { try client.readBytes(at: 0, count: 1000) }
        withExtendedLifetime(silent) {}
    }

    @Test func aSeventeenthClientIsRefused() throws {
        let server = try NBDServer(disk, at: .unix(path))
        defer { server.stop() }
        var open: [NBDSocket] = []
        for _ in 0..<16 {
            let socket = NBDSocket(try Sockets.connect(to: path), "test")
            _ = try socket.receive(18)
            open.append(socket)
        }
        #expect(throws: BlockIOError.self) { try client() }
        open.removeLast().end()
        // A place becomes free as soon as its thread has ended.
        var isServed = false
        for _ in 0..<100 where !isServed {
            isServed = (try? client()) != nil
            if !isServed { SystemFacts.sleep(seconds: 0.02) }
        }
        #expect(isServed)
    }

    /// Clients that hang must not lock out all others for ever; one that waits for the disk is not idle.
    @Test func anIdleClientLeavesItsPlaceToAnother() throws {
        let server = try NBDServer(disk, at: .unix(path), idleSeconds: 0.3)
        defer { server.stop() }
        let busy = try client()
        disk.gate.update { $0 = false }
        let isRead = Monitor(false)
        let thread = try WorkerThread { [disk] in
            let bytes = try? busy.readBytes(at: 0, count: 1000)
            isRead.update { $0 = bytes == Array(disk.bytes[0..<1000]) }
        }
        _ = disk.readCount.wait { $0 > 0 ? true : nil }
        let silent = try (0..<15).map { _ in
            let socket = NBDSocket(try Sockets.connect(to: path), "test")
            try socket.send(WireBytes.handshake)
            _ = try socket.receive(18)
            return socket
        }
        SystemFacts.sleep(seconds: 0.5)
        let late = try client()
        disk.gate.update { $0 = true }
        thread.join()
        #expect(isRead.update { $0 })
        #expect(try late.readBytes(at: 0, count: 1000) == Array(disk.bytes[0..<1000]))
        let closed = silent.filter { socket in
            socket.limit(seconds: 0.2)
            while true {
                do throws(NBDError) { _ = try socket.receive(1) } catch {
                    if case .closed = error { return true }
                    return false
                }
            }
        }
        #expect(closed.count == 1)
    }

    @Test func stopsWhileBusy() throws {
        let server = try NBDServer(disk, at: .unix(path))
        let client = try client()
        let failed = Monitor(false)
        let thread = try WorkerThread {
            for _ in 0..<100_000 where (try? client.readBytes(at: 0, count: 300_000)) == nil {
                failed.update { $0 = true }
                return
            }
        }
        _ = disk.readCount.wait { $0 > 3 ? true : nil }
        server.stop()
        thread.join()
        #expect(failed.update { $0 })
    }

    @Test func aLiveSocketIsKeptAndADeadOneReplaced() throws {
        let server = try NBDServer(disk, at: .unix(path))
        do throws(SystemCallError) {
            _ = try NBDServer(disk, at: .unix(path))
            Issue.record("it listens too")
        } catch { #expect(error.errno == .addressInUse) }
        #expect(try client().byteCount == disk.byteCount)
        server.stop()
        // As a killed server leaves it: bound, and closed.
        do { _ = try Sockets.listen(at: path) }
        #expect(Files.exists(path))
        let second = try NBDServer(disk, at: .unix(path))
        #expect(try client().byteCount == disk.byteCount)
        second.stop()
        #expect(!Files.exists(path))
        try Files.write([1], to: path)
        do throws(SystemCallError) {
            _ = try NBDServer(disk, at: .unix(path))
            Issue.record("a file was replaced")
        } catch { #expect(error.errno == .fileExists) }
        #expect(try Files.read(path) == [1])
    }

    @Test func onlyTheOwnSocketIsRemoved() throws {
        let server = try NBDServer(disk, at: .unix(path))
        try Files.remove(path)
        try Files.write([1], to: path)
        server.stop()
        #expect(Files.exists(path))
    }

    @Test func aPortOfThisMachine() throws {
        let server = try NBDServer(disk, at: .loopback(port: 0))
        defer { server.stop() }
        guard case .loopback(let port) = server.address else { return }
        #expect(port != 0)
        #expect(server.uri == "nbd://127.0.0.1:\(port)")
        #expect(throws: SystemCallError.self) { try NBDServer(disk, at: .loopback(port: port)) }
    }

    @Test func pathsAreEncodedInAddresses() throws {
        let odd = scratch.path.appending("a b?&%'ü")
        let server = try NBDServer(disk, at: .unix(odd))
        defer { server.stop() }
        #expect(server.uri.hasSuffix("/a%20b%3F%26%25%27%C3%BC"))
    }

    @Test func aPathThatIsTooLongIsAnError() {
        let long = scratch.path.appending(String(repeating: "x", count: 110))
        do throws(SystemCallError) {
            _ = try NBDServer(disk, at: .unix(long))
            Issue.record("it listens")
        } catch { #expect(error.errno == .fileNameTooLong) }
    }
}
