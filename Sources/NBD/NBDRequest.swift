// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A request of a client in the transmission phase.
package struct NBDRequest: Equatable, Sendable {
    /// `nil` for a command that is not known.
    package var command: NBDWire.Command?
    package var flags: UInt16
    /// The client's name of the request, repeated in the reply.
    package var cookie: UInt64
    package var offset: UInt64
    package var byteCount: UInt32

    package init(_ command: NBDWire.Command?, flags: UInt16 = 0, cookie: UInt64, offset: UInt64, byteCount: UInt32) {
        self.command = command
        self.flags = flags
        self.cookie = cookie
        self.offset = offset
        self.byteCount = byteCount
    }

    /// Decodes the 28 bytes of a request.
    /// - Throws: `ParsingError` if they do not begin a request; what follows cannot be found then.
    package init(_ bytes: [UInt8]) throws(ParsingError) {
        guard try bytes.bigEndian(UInt32.self, at: 0) == NBDWire.requestMagic else {
            throw .invalid(what: "a request's mark")
        }
        flags = try bytes.bigEndian(at: 4)
        command = NBDWire.Command(rawValue: try bytes.bigEndian(at: 6))
        cookie = try bytes.bigEndian(at: 8)
        offset = try bytes.bigEndian(at: 16)
        byteCount = try bytes.bigEndian(at: 24)
    }

    package var bytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(NBDWire.requestByteCount)
        bytes.appendBigEndian(NBDWire.requestMagic)
        bytes.appendBigEndian(flags)
        bytes.appendBigEndian(command?.rawValue ?? 0)
        bytes.appendBigEndian(cookie)
        bytes.appendBigEndian(offset)
        bytes.appendBigEndian(byteCount)
        return bytes
    }

    /// The bytes that it names; `nil` for none, or if they are not all on a disk of this length.
    func range(on diskByteCount: UInt64) -> ByteRange? {
        guard byteCount > 0, let range = ByteRange(offset: offset, byteCount: UInt64(byteCount)),
            range.upperBound <= diskByteCount
        else { return nil }
        return range
    }
}

/// The payload of `NBD_OPT_INFO` and `NBD_OPT_GO`: the name of an export, and the facts that are asked for. All facts
/// are sent in any case.
struct NBDInfoQuery: Equatable {
    var export: String

    init(_ bytes: [UInt8]) throws(ParsingError) {
        let nameByteCount = try Int(bytes.bigEndian(UInt32.self, at: 0))
        export = String(decoding: try bytes.bytes(at: 4, count: nameByteCount), as: UTF8.self)
        let count = try Int(bytes.bigEndian(UInt16.self, at: 4 + nameByteCount))
        guard bytes.count == 4 + nameByteCount + 2 + 2 * count else { throw .invalid(what: "an option's length") }
    }

    /// The payload for an export without further facts.
    static func bytes(export: String) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendNBDText(export)
        bytes.appendBigEndian(UInt16(0))
        return bytes
    }
}

/// The payload of `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`.
struct NBDContextQuery: Equatable {
    var export: String
    var queries: [String] = []

    init(_ bytes: [UInt8]) throws(ParsingError) {
        var position = 0
        func text() throws(ParsingError) -> String {
            let count = try Int(bytes.bigEndian(UInt32.self, at: position))
            let text = String(decoding: try bytes.bytes(at: position + 4, count: count), as: UTF8.self)
            position += 4 + count
            return text
        }
        export = try text()
        let count = try Int(bytes.bigEndian(UInt32.self, at: position))
        position += 4
        // Every query has at least its length.
        guard count <= (bytes.count - position) / 4 else { throw .invalid(what: "a number of queries") }
        for _ in 0..<count { queries.append(try text()) }
        guard position == bytes.count else { throw .invalid(what: "an option's length") }
    }

    static func bytes(export: String, query: String) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendNBDText(export)
        bytes.appendBigEndian(UInt32(1))
        bytes.appendNBDText(query)
        return bytes
    }

    /// Whether `base:allocation` is meant.
    /// - Parameter lists: whether a namespace alone, or no query at all, means everything in it.
    func names(allocation lists: Bool) -> Bool {
        queries.contains(NBDWire.allocationContext) || lists && (queries.isEmpty || queries.contains("base:"))
    }
}
