// SPDX-License-Identifier: GPL-3.0-or-later
@testable import NBD

/// Messages as a client or a server sends them.
enum WireBytes {
    static func clientFlags(_ flags: UInt32 = 3) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(flags)
        return bytes
    }

    static func option(_ number: UInt32, _ payload: [UInt8] = []) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(NBDWire.optionMagic)
        bytes.appendBigEndian(number)
        bytes.appendBigEndian(UInt32(payload.count))
        return bytes + payload
    }

    /// Structured replies, `base:allocation`, and the export `disk`.
    static var handshake: [UInt8] {
        clientFlags() + option(8)
            + option(10, NBDContextQuery.bytes(export: "disk", query: "base:allocation"))
            + option(7, NBDInfoQuery.bytes(export: "disk"))
    }

    static func request(
        _ command: UInt16, flags: UInt16 = 0, cookie: UInt64 = 9, offset: UInt64 = 0, byteCount: UInt32 = 0
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(NBDWire.requestMagic)
        bytes.appendBigEndian(flags)
        bytes.appendBigEndian(command)
        bytes.appendBigEndian(cookie)
        bytes.appendBigEndian(offset)
        bytes.appendBigEndian(byteCount)
        return bytes
    }

    // MARK: A server's

    static var greeting: [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(NBDWire.greeting)
        bytes.appendBigEndian(NBDWire.optionMagic)
        bytes.appendBigEndian(UInt16(3))
        return bytes
    }

    static func optionReply(_ option: UInt32, _ type: UInt32, _ payload: [UInt8] = []) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(NBDWire.optionReplyMagic)
        bytes.appendBigEndian(option)
        bytes.appendBigEndian(type)
        bytes.appendBigEndian(UInt32(payload.count))
        return bytes + payload
    }

    /// What a server sends up to the end of the handshake.
    static func serverHandshake(byteCount: UInt64 = 65536, isStructured: Bool = true) -> [UInt8] {
        var context: [UInt8] = [0, 0, 0, 5]
        context += Array("base:allocation".utf8)
        var export: [UInt8] = [0, 0]
        export.appendBigEndian(byteCount)
        export += [0, 3]
        return greeting + optionReply(8, isStructured ? 1 : NBDWire.errorUnsupported)
            + (isStructured ? optionReply(10, 4, context) + optionReply(10, 1) : [])
            + optionReply(7, 3, export) + optionReply(7, 1)
    }

    static func chunk(_ type: UInt16, cookie: UInt64 = 1, isLast: Bool = true, _ payload: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(NBDWire.structuredReplyMagic)
        bytes.appendBigEndian(UInt16(isLast ? 1 : 0))
        bytes.appendBigEndian(type)
        bytes.appendBigEndian(cookie)
        bytes.appendBigEndian(UInt32(payload.count))
        return bytes + payload
    }

    static func data(at offset: UInt64, _ bytes: [UInt8]) -> [UInt8] {
        var payload: [UInt8] = []
        payload.appendBigEndian(offset)
        return payload + bytes
    }

    static func hole(at offset: UInt64, byteCount: UInt32) -> [UInt8] {
        var payload: [UInt8] = []
        payload.appendBigEndian(offset)
        payload.appendBigEndian(byteCount)
        return payload
    }

    static func numbers(_ numbers: UInt32...) -> [UInt8] {
        numbers.reduce(into: []) { $0.appendBigEndian($1) }
    }
}
