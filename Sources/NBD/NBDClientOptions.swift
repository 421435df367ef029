// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The handshake of a client.
struct NBDClientOptions {
    private let transport: any NBDTransport

    init(_ transport: any NBDTransport) { self.transport = transport }

    /// Receives the greeting and answers it.
    func greet() throws(NBDError) {
        guard try transport.receiveNumber(UInt64.self) == NBDWire.greeting,
            try transport.receiveNumber(UInt64.self) == NBDWire.optionMagic
        else { throw .invalid("its greeting is not NBD's") }
        let offered = NBDWire.HandshakeFlags(rawValue: UInt32(try transport.receiveNumber(UInt16.self)))
        guard offered.contains(.fixedNewstyle) else { throw .invalid("it has not the fixed newstyle handshake") }
        var flags: [UInt8] = []
        flags.appendBigEndian(offered.intersection([.fixedNewstyle, .noZeroes]).rawValue)
        try transport.send(flags)
    }

    /// - Returns: whether replies are structured.
    func chooseStructuredReplies() throws(NBDError) -> Bool {
        try send(.structuredReply, [])
        return try isDone(.structuredReply) { _, _ throws(NBDError) in }
    }

    /// - Returns: the server's number of `base:allocation`; `nil` if it does not have it.
    func chooseAllocation(export: String) throws(NBDError) -> UInt32? {
        try send(.setMetaContext, NBDContextQuery.bytes(export: export, query: NBDWire.allocationContext))
        var number: UInt32?
        let isDone = try isDone(.setMetaContext) { type, payload throws(NBDError) in
            guard type == NBDWire.replyMetaContext, number == nil,
                let found = try? payload.bigEndian(UInt32.self, at: 0),
                payload.dropFirst(4).elementsEqual(NBDWire.allocationContext.utf8)
            else { throw .invalid("a context that was not asked for") }
            number = found
        }
        return isDone ? number : nil
    }

    /// What a server tells of an export.
    struct Facts {
        var byteCount: UInt64
        var longestRead: Int
    }

    /// Ends the handshake.
    func open(export: String) throws(NBDError) -> Facts {
        // The block sizes are not asked for: a server that is asked may demand aligned reads.
        try send(.go, NBDInfoQuery.bytes(export: export))
        var byteCount: UInt64?
        var longestRead = NBDWire.longestRead
        let isDone = try isDone(.go) { type, payload throws(NBDError) in
            guard type == NBDWire.replyInfo, let info = try? payload.bigEndian(UInt16.self, at: 0) else {
                throw .invalid("a reply of the type \(type)")
            }
            if info == NBDWire.infoExport {
                guard payload.count == 12 else { throw .invalid("the facts of its export") }
                byteCount = try? payload.bigEndian(at: 2)
            } else if info == NBDWire.infoBlockSize {
                guard payload.count == 14, let least = try? payload.bigEndian(UInt32.self, at: 2),
                    let most = try? payload.bigEndian(UInt32.self, at: 10), most >= 4096
                else { throw .invalid("its block sizes") }
                guard least == 1 else { throw .invalid("it demands reads in blocks of \(least) bytes") }
                longestRead = Int(min(most, UInt32(NBDWire.longestRead)))
            }
        }
        guard isDone else { throw .invalid("it has no export \"\(export)\"") }
        guard let byteCount, byteCount <= UInt64(Int64.max) else { throw .invalid("the length of its disk") }
        return Facts(byteCount: byteCount, longestRead: longestRead)
    }

    // MARK: Options

    private func send(_ option: NBDWire.Option, _ payload: [UInt8]) throws(NBDError) {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(NBDWire.optionMagic)
        bytes.appendBigEndian(option.rawValue)
        bytes.appendBigEndian(UInt32(payload.count))
        try transport.send(bytes + payload)
    }

    /// Upper bound on the replies to one option.
    private static let mostReplies = 64

    /// Receives the replies to an option.
    /// - Parameter body: receives those before the last one: the type and the payload.
    /// - Returns: whether it was acknowledged; `false` if it was refused.
    private func isDone(
        _ option: NBDWire.Option, _ body: (UInt32, [UInt8]) throws(NBDError) -> Void
    ) throws(NBDError) -> Bool {
        for _ in 0..<Self.mostReplies {
            guard try transport.receiveNumber(UInt64.self) == NBDWire.optionReplyMagic,
                try transport.receiveNumber(UInt32.self) == option.rawValue
            else { throw .invalid("an option's reply") }
            let type = try transport.receiveNumber(UInt32.self)
            let byteCount = try transport.receiveNumber(UInt32.self)
            guard byteCount <= NBDWire.longestOption else { throw .invalid("an option's reply of \(byteCount) bytes") }
            let payload = try transport.receive(Int(byteCount))
            if type == NBDWire.acknowledgement { return true }
            if type >= 0x8000_0000 { return false }
            try body(type, payload)
        }
        throw .invalid("too many replies to an option")
    }
}
