// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import TestSupport
import Testing

@testable import NBD

/// The client's side, against servers that lie.
@Suite struct NBDConversationTests {
    /// Reads 16 bytes at 0 after a handshake.
    private func read(_ reply: [UInt8], isStructured: Bool = true) throws -> [UInt8] {
        let transport = ScriptedTransport(WireBytes.serverHandshake(isStructured: isStructured) + reply)
        let conversation = try NBDConversation(transport, export: "disk")
        #expect(conversation.byteCount == 65536)
        var bytes = [UInt8](repeating: 0xEE, count: 16)
        try bytes.withUnsafeMutableBytes { try conversation.read(into: $0, at: 0) }
        #expect(transport.isUsedUp)
        return bytes
    }

    private let bytes = Array(1...16 as ClosedRange<UInt8>)

    @Test func goodRepliesAreTaken() throws {
        #expect(try read(WireBytes.chunk(1, WireBytes.data(at: 0, bytes))) == bytes)
        // In pieces, in any order, with a hole, and an empty last chunk.
        let pieces =
            WireBytes.chunk(1, isLast: false, WireBytes.data(at: 12, [9, 9, 9, 9]))
            + WireBytes.chunk(2, isLast: false, WireBytes.hole(at: 4, byteCount: 8))
            + WireBytes.chunk(1, isLast: false, WireBytes.data(at: 0, [1, 2, 3, 4])) + WireBytes.chunk(0, [])
        #expect(try read(pieces) == [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9])
        let simple = WireBytes.numbers(NBDWire.simpleReplyMagic, 0, 0, 1) + bytes
        #expect(try read(simple, isStructured: false) == bytes)
    }

    @Test func liesAreRefused() {
        let whole = WireBytes.data(at: 0, bytes)
        let replies: [(String, [UInt8])] = [
            ("another cookie", WireBytes.chunk(1, cookie: 2, whole)),
            ("too few bytes", WireBytes.chunk(1, WireBytes.data(at: 0, [1]))),
            ("no bytes", WireBytes.chunk(0, [])),
            ("bytes twice", WireBytes.chunk(1, isLast: false, whole) + WireBytes.chunk(1, WireBytes.data(at: 3, [1]))),
            ("bytes behind", WireBytes.chunk(1, WireBytes.data(at: 1, bytes))),
            ("a far offset", WireBytes.chunk(1, WireBytes.data(at: .max, bytes))),
            ("a long hole", WireBytes.chunk(2, WireBytes.hole(at: 0, byteCount: .max))),
            ("an empty hole", WireBytes.chunk(2, WireBytes.hole(at: 0, byteCount: 0))),
            ("an unknown chunk", WireBytes.chunk(99, [1])),
            ("extents", WireBytes.chunk(5, WireBytes.numbers(5, 16, 0))),
            ("no mark", [UInt8](repeating: 0, count: 64)),
            ("a text that is too long", WireBytes.chunk(0x8001, [0, 0, 0, 5, 255, 255, 65])),
            ("the error 0", WireBytes.chunk(0x8001, [0, 0, 0, 0, 0, 0])),
            ("a simple reply", WireBytes.numbers(NBDWire.simpleReplyMagic, 0, 0, 1) + bytes),
            (
                "errors without end",
                Array((0..<100).map { _ in WireBytes.chunk(0x8001, isLast: false, [0, 0, 0, 5, 0, 0]) }.joined())
            ),
        ]
        for (what, reply) in replies {
            do {
                _ = try read(reply)
                Issue.record("taken: \(what)")
            } catch let error as NBDError {
                guard case .invalid = error else {
                    Issue.record("\(what): \(error)")
                    continue
                }
            } catch { Issue.record("\(what): \(error)") }
        }
    }

    @Test func anErrorLeavesTheConversationUsable() throws {
        let error = WireBytes.chunk(
            0x8002, isLast: false, [0, 0, 0, 5, 0, 3] + Array("b\u{1B}d".utf8) + [0, 0, 0, 0, 0, 0, 0, 3])
        let transport = ScriptedTransport(
            WireBytes.serverHandshake() + WireBytes.chunk(1, isLast: false, WireBytes.data(at: 0, [1, 2])) + error
                + WireBytes.chunk(0, []) + WireBytes.chunk(1, cookie: 2, WireBytes.data(at: 0, bytes)))
        let conversation = try NBDConversation(transport, export: "disk")
        var buffer = [UInt8](repeating: 0, count: 16)
        do throws(NBDError) {
            let result = buffer.withUnsafeMutableBytes { buffer in
                Result { () throws(NBDError) in try conversation.read(into: buffer, at: 0) }
            }
            try result.get()
            Issue.record("it was read")
        } catch {
            guard case .refused(5, "b?d") = error else {
                Issue.record("\(error)")
                return
            }
        }
        try buffer.withUnsafeMutableBytes { try conversation.read(into: $0, at: 0) }
        #expect(buffer == bytes)
    }

    @Test func extentsAreMeasured() throws {
        func extents(_ reply: [UInt8]) throws -> [DiskExtent] {
            let transport = ScriptedTransport(WireBytes.serverHandshake() + reply)
            return try NBDConversation(transport, export: "disk").extents(in: 0..<4096)
        }
        let good = WireBytes.numbers(5, 512, 0, 512, 0, 1024, 2, 65536, 3)
        #expect(
            try extents(WireBytes.chunk(5, good)) == [
                DiskExtent(.data, byteCount: 1024), DiskExtent(.zero, byteCount: 3072),
            ])
        for (what, payload) in [
            ("another context", WireBytes.numbers(6, 512, 0)), ("no extent", WireBytes.numbers(5)),
            ("an empty one", WireBytes.numbers(5, 0, 0)), ("half of one", WireBytes.numbers(5, 512)),
            ("too many", WireBytes.numbers(5, 4096, 0, 1, 0)),
        ] {
            #expect(throws: NBDError.self, "\(what)") { try extents(WireBytes.chunk(5, payload)) }
        }
        #expect(throws: NBDError.self) {
            try extents(WireBytes.chunk(5, isLast: false, good) + WireBytes.chunk(5, good))
        }
        #expect(throws: NBDError.self) { try extents(WireBytes.chunk(0, [])) }
    }

    @Test func badHandshakesAreRefused() {
        let good = WireBytes.serverHandshake()
        for count in 0..<good.count {
            #expect(throws: NBDError.self) {
                try NBDConversation(ScriptedTransport(Array(good.prefix(count))), export: "disk")
            }
        }
        for bytes in [
            Array("SSH-2.0-OpenSSH_9.9\r\nmore".utf8), WireBytes.serverHandshake(byteCount: .max),
            // A server that has no such export.
            WireBytes.greeting + WireBytes.optionReply(8, 1) + WireBytes.optionReply(10, 1)
                + WireBytes.optionReply(7, 0x8000_0006),
            // It demands aligned reads.
            WireBytes.greeting + WireBytes.optionReply(8, 1) + WireBytes.optionReply(10, 1)
                + WireBytes.optionReply(7, 3, [0, 3] + WireBytes.numbers(512, 4096, 1 << 20))
                + WireBytes.optionReply(7, 1),
            // Replies without end.
            WireBytes.greeting
                + Array((0..<100).map { _ in WireBytes.optionReply(8, 3, [0, 7]) }.joined()),
        ] {
            #expect(throws: NBDError.self) { try NBDConversation(ScriptedTransport(bytes), export: "disk") }
        }
    }

    @Test func anyServerEnds() {
        let whole = WireBytes.serverHandshake() + WireBytes.chunk(1, WireBytes.data(at: 0, bytes))
        var random = SeededGenerator(seed: Sample.seed())
        for _ in 0..<500 {
            var input = whole
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                input[Int.random(in: 0..<input.count, using: &random)] = UInt8(truncatingIfNeeded: random.next())
            }
            _ = try? read(input)
        }
    }
}
