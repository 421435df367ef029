// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import NBD

/// The server's side, without sockets.
@Suite struct NBDSessionTests {
    let disk = SampleServedDisk()

    /// Runs a whole conversation.
    /// - Returns: what the server sent, and how it ended.
    private func replies(to input: [UInt8]) -> (bytes: [UInt8], error: NBDError?) {
        let transport = ScriptedTransport(input)
        let session = NBDSession(disk, transport) { _ in }
        do throws(NBDError) {
            if try session.negotiate() { try session.transmit() }
            return (transport.output, nil)
        } catch { return (transport.output, error) }
    }

    private func afterHandshake(_ requests: [UInt8]) -> [UInt8] {
        let prefix = replies(to: WireBytes.handshake).bytes.count
        return Array(replies(to: WireBytes.handshake + requests + WireBytes.request(2)).bytes.dropFirst(prefix))
    }

    /// The error number of a reply that is one error chunk.
    private func errorNumber(_ reply: [UInt8]) throws -> UInt32? {
        guard try reply.bigEndian(UInt16.self, at: 6) & 0x8000 != 0 else { return nil }
        return try reply.bigEndian(UInt32.self, at: 20)
    }

    @Test func requestsKeepTheirNumbers() throws {
        let request = NBDRequest(.blockStatus, flags: 8, cookie: .max, offset: 1 << 40, byteCount: 7)
        #expect(try NBDRequest(request.bytes) == request)
        #expect(throws: ParsingError.self) { try NBDRequest(Array(request.bytes.dropLast())) }
        #expect(throws: ParsingError.self) { try NBDRequest([0] + request.bytes.dropFirst()) }
        var unknown = request.bytes
        unknown[7] = 99
        #expect(try NBDRequest(unknown).command == nil)
    }

    @Test func rangesAreOnTheDisk() {
        func range(_ offset: UInt64, _ count: UInt32) -> ByteRange? {
            NBDRequest(.read, cookie: 0, offset: offset, byteCount: count).range(on: 1000)
        }
        #expect(range(0, 1000) == 0..<1000)
        #expect(range(999, 1) == 999..<1000)
        for (offset, count) in [(0 as UInt64, 1001 as UInt32), (1000, 1), (.max, .max), (5, 0)] {
            #expect(range(offset, count) == nil)
        }
    }

    @Test func optionPayloadsAreMeasured() throws {
        let info = NBDInfoQuery.bytes(export: "disk")
        #expect(try NBDInfoQuery(info).export == "disk")
        let query = NBDContextQuery.bytes(export: "x", query: "base:allocation")
        #expect(try NBDContextQuery(query).names(allocation: false))
        for count in 0..<info.count {
            #expect(throws: ParsingError.self) { try NBDInfoQuery(Array(info.prefix(count))) }
        }
        for count in 0..<query.count {
            #expect(throws: ParsingError.self) { try NBDContextQuery(Array(query.prefix(count))) }
        }
        #expect(throws: ParsingError.self) { try NBDInfoQuery(info + [0]) }
        #expect(throws: ParsingError.self) { try NBDContextQuery(query + [0]) }
        // A number of queries that no payload holds.
        #expect(throws: ParsingError.self) { try NBDContextQuery(WireBytes.numbers(0, .max)) }
        let all = try NBDContextQuery(WireBytes.numbers(0, 0))
        #expect(all.names(allocation: true) && !all.names(allocation: false))
    }

    @Test func everyOptionIsAnswered() throws {
        let options: [(UInt32, [UInt8], UInt32)] = [
            (3, [], 2), (3, [1], NBDWire.errorInvalid), (5, [], NBDWire.errorUnsupported), (8, [], 1),
            (8, [0], NBDWire.errorInvalid), (6, NBDInfoQuery.bytes(export: "any"), 3), (6, [], NBDWire.errorInvalid),
            (9, WireBytes.numbers(0, 0), 4), (11, [], NBDWire.errorUnsupported), (.max, [], NBDWire.errorUnsupported),
            (10, WireBytes.numbers(0, 0), NBDWire.errorInvalid), (2, [], 1),
        ]
        for (number, payload, type) in options {
            let (bytes, error) = replies(to: WireBytes.clientFlags() + WireBytes.option(number, payload))
            #expect(try bytes.bigEndian(UInt64.self, at: 18) == NBDWire.optionReplyMagic, "option \(number)")
            #expect(try bytes.bigEndian(UInt32.self, at: 26) == number)
            #expect(try bytes.bigEndian(UInt32.self, at: 30) == type, "option \(number)")
            // Only an abort ends it; else more is waited for.
            #expect((error == nil) == (number == 2))
        }
    }

    @Test(arguments: [1 as UInt32, 3]) func theOldOptionHasItsOwnReply(flags: UInt32) throws {
        let (bytes, error) = replies(
            to: WireBytes.clientFlags(flags) + WireBytes.option(1, Array("name".utf8)) + WireBytes.request(2))
        #expect(error == nil)
        #expect(bytes.count == 18 + 10 + (flags & 2 == 0 ? 124 : 0))
        #expect(try bytes.bigEndian(UInt64.self, at: 18) == disk.byteCount)
        // HAS_FLAGS, READ_ONLY, CAN_MULTI_CONN; no SEND_DF without structured replies.
        #expect(try bytes.bigEndian(UInt16.self, at: 26) == 0x103)
        // Simple replies then.
        let read = replies(
            to: WireBytes.clientFlags(flags) + WireBytes.option(1)
                + WireBytes.request(0, offset: 5, byteCount: 10) + WireBytes.request(2))
        #expect(Array(read.bytes.suffix(10)) == Array(disk.bytes[5..<15]))
        #expect(try read.bytes.bigEndian(UInt32.self, at: bytes.count) == NBDWire.simpleReplyMagic)
    }

    @Test func whatIsNotNBDEndsTheConnection() {
        for input in [
            WireBytes.clientFlags(0x80), Array("GET / HTTP/1.1\r\n\r\n".utf8),
            WireBytes.clientFlags() + [UInt8](repeating: 0x41, count: 16),
            WireBytes.clientFlags() + WireBytes.option(7, [UInt8](repeating: 0, count: 70_000)),
            WireBytes.handshake + [UInt8](repeating: 0, count: 28),
        ] {
            guard case .invalid = replies(to: input).error else {
                Issue.record("it was taken")
                continue
            }
        }
    }

    @Test func holesAreSentAsHoles() throws {
        let reply = afterHandshake(WireBytes.request(0, byteCount: UInt32(disk.byteCount)))
        var position = 0
        var isDone = false
        var content = [UInt8](repeating: 0xEE, count: Int(disk.byteCount))
        var holeByteCount = 0
        while position < reply.count {
            #expect(!isDone)
            let type = try reply.bigEndian(UInt16.self, at: position + 6)
            isDone = try reply.bigEndian(UInt16.self, at: position + 4) == 1
            let count = Int(try reply.bigEndian(UInt32.self, at: position + 16))
            let offset = Int(try reply.bigEndian(UInt64.self, at: position + 20))
            if type == 1 {
                let bytes = try reply.bytes(at: position + 28, count: count - 8)
                content.replaceSubrange(offset..<offset + bytes.count, with: bytes)
            } else {
                #expect(type == 2)
                let hole = Int(try reply.bigEndian(UInt32.self, at: position + 28))
                content.replaceSubrange(offset..<offset + hole, with: repeatElement(0, count: hole))
                holeByteCount += hole
            }
            position += 20 + count
        }
        #expect(isDone && content == disk.bytes)
        #expect(holeByteCount == 2 << 20)
    }

    /// An answer of a fragmented disk has a thousand extents: asked for again at each of them, a read took seconds.
    @Test func extentsAreAskedForOnceARead() {
        let transport = ScriptedTransport(
            WireBytes.handshake + WireBytes.request(0, byteCount: UInt32(disk.byteCount)) + WireBytes.request(2))
        let session = NBDSession(disk, transport) { _ in }
        #expect(throws: Never.self) { if try session.negotiate() { try session.transmit() } }
        #expect(disk.askedCount.update { $0 } == 1)
    }

    @Test func oneChunkIfTheClientWantsIt() throws {
        let reply = afterHandshake(WireBytes.request(0, flags: 4, byteCount: UInt32(disk.byteCount)))
        #expect(reply.count == 20 + 8 + disk.bytes.count)
        #expect(Array(reply.dropFirst(28)) == disk.bytes)
    }

    @Test func extentsSayWhatReadsAsZeros() throws {
        let reply = afterHandshake(WireBytes.request(7, byteCount: UInt32(disk.byteCount)))
        #expect(
            Array(reply.dropFirst(20))
                == WireBytes.numbers(1, 300_000, 0, 1 << 20, 2, 300_000, 0, 1 << 20, 3, 777, 0))
        let one = afterHandshake(WireBytes.request(7, flags: 8, offset: 299_999, byteCount: 1 << 20))
        #expect(Array(one.dropFirst(20)) == WireBytes.numbers(1, 1, 0))
    }

    @Test func requestsThatCannotBeServedGetTheirErrors() throws {
        let size = disk.byteCount
        for (request, number) in [
            (WireBytes.request(0, offset: size, byteCount: 1), 22 as UInt32),
            (WireBytes.request(0, offset: .max, byteCount: .max), 22),
            (WireBytes.request(0, byteCount: 0), 22), (WireBytes.request(7, offset: size, byteCount: 1), 22),
            (WireBytes.request(1, byteCount: 5) + [1, 2, 3, 4, 5], 1), (WireBytes.request(4, byteCount: 5), 1),
            (WireBytes.request(6, byteCount: 5), 1), (WireBytes.request(3), 22), (WireBytes.request(5), 22),
            (WireBytes.request(77), 22),
        ] {
            // The next request is answered.
            let reply = afterHandshake(request + WireBytes.request(0, cookie: 10, byteCount: 4))
            #expect(try errorNumber(reply) == number)
            #expect(Array(reply.suffix(4)) == Array(disk.bytes[0..<4]))
        }
        let large = SampleServedDisk(data: 1000, hole: 40 << 20)
        let transport = ScriptedTransport(
            WireBytes.handshake + WireBytes.request(0, byteCount: 33 << 20) + WireBytes.request(2))
        let session = NBDSession(large, transport) { _ in }
        #expect(try session.negotiate())
        let start = transport.output.count
        try session.transmit()
        #expect(try errorNumber(Array(transport.output.dropFirst(start))) == 75)
    }

    @Test func withoutAContextThereAreNoExtents() throws {
        let handshake =
            WireBytes.clientFlags() + WireBytes.option(8) + WireBytes.option(7, NBDInfoQuery.bytes(export: ""))
        let prefix = replies(to: handshake).bytes.count
        let reply = replies(to: handshake + WireBytes.request(7, byteCount: 10) + WireBytes.request(2)).bytes
        #expect(try errorNumber(Array(reply.dropFirst(prefix))) == 22)
    }

    @Test func aFailedReadIsAnErrorWithItsPlace() throws {
        disk.memory.makeUnreadable(1_400_000..<1_400_512)
        var failures: [BlockIOError] = []
        let transport = ScriptedTransport(
            WireBytes.handshake + WireBytes.request(0, byteCount: 1_500_000) + WireBytes.request(2))
        let session = NBDSession(disk, transport) { failures.append($0) }
        #expect(try session.negotiate())
        try session.transmit()
        #expect(failures.count == 1)
        // The last chunk: ERROR_OFFSET, done, EIO, the start of the piece.
        let reply = transport.output
        let offset = try reply.bigEndian(UInt64.self, at: reply.count - 8)
        #expect(offset == 300_000 + 1 << 20)
        let text = failures[0].reason.utf8.count
        let head = reply.count - 8 - text - 6 - 20
        #expect(try reply.bigEndian(UInt32.self, at: head) == NBDWire.structuredReplyMagic)
        #expect(try reply.bigEndian(UInt32.self, at: head + 4) == 0x0001_8002)
        #expect(try reply.bigEndian(UInt32.self, at: head + 20) == 5)
    }

    /// Neither a trap nor an endless loop, wherever the client stops and whatever it sends.
    @Test func anyInputEnds() {
        let whole =
            WireBytes.handshake + WireBytes.request(0, byteCount: 100) + WireBytes.request(7, byteCount: 100)
            + WireBytes.request(1, byteCount: 3) + [1, 2, 3] + WireBytes.request(2)
        for count in 0..<whole.count { #expect(replies(to: Array(whole.prefix(count))).error != nil) }
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        for _ in 0..<500 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8(truncatingIfNeeded: random.next())
            }
            _ = replies(to: bytes)
        }
    }
}
