// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

extension NBDSession {
    /// Greets the client and answers its options.
    /// - Returns: whether requests follow; `false` if the client wants no more.
    package func negotiate() throws(NBDError) -> Bool {
        let flags: NBDWire.HandshakeFlags = [.fixedNewstyle, .noZeroes]
        var greeting: [UInt8] = []
        greeting.appendBigEndian(NBDWire.greeting)
        greeting.appendBigEndian(NBDWire.optionMagic)
        greeting.appendBigEndian(UInt16(flags.rawValue))
        try transport.send(greeting)
        let client = NBDWire.HandshakeFlags(rawValue: try transport.receiveNumber())
        guard client.isSubset(of: flags) else { throw .invalid("unknown flags \(client.rawValue)") }
        while true {
            if let isGo = try answerOption(hasNoZeroes: client.contains(.noZeroes)) { return isGo }
        }
    }

    /// Answers one option.
    /// - Returns: whether requests follow; `nil` if more options do.
    private func answerOption(hasNoZeroes: Bool) throws(NBDError) -> Bool? {
        guard try transport.receiveNumber(UInt64.self) == NBDWire.optionMagic else {
            throw .invalid("an option's mark")
        }
        let number = try transport.receiveNumber(UInt32.self)
        let byteCount = try transport.receiveNumber(UInt32.self)
        guard byteCount <= NBDWire.longestOption else { throw .invalid("an option of \(byteCount) bytes") }
        let payload = try transport.receive(Int(byteCount))
        switch NBDWire.Option(rawValue: number) {
        case .exportName:
            // The one option without a reply: the facts follow at once.
            var facts = exportFacts
            if !hasNoZeroes { facts += [UInt8](repeating: 0, count: 124) }
            try transport.send(facts)
            return true
        case .abort:
            try reply(number, NBDWire.acknowledgement)
            return false
        case .list:
            guard payload.isEmpty else {
                try reply(number, NBDWire.errorInvalid)
                return nil
            }
            var name: [UInt8] = []
            name.appendNBDText("")
            try reply(number, NBDWire.replyServer, name)
            try reply(number, NBDWire.acknowledgement)
        case .info, .go:
            guard (try? NBDInfoQuery(payload)) != nil else {
                try reply(number, NBDWire.errorInvalid)
                return nil
            }
            try replyInfo(number)
            return number == NBDWire.Option.go.rawValue ? true : nil
        case .structuredReply:
            isStructured = isStructured || payload.isEmpty
            try reply(number, payload.isEmpty ? NBDWire.acknowledgement : NBDWire.errorInvalid)
        case .listMetaContext, .setMetaContext: try replyContexts(number, payload)
        case nil: try reply(number, NBDWire.errorUnsupported)
        }
        return nil
    }

    private func replyInfo(_ number: UInt32) throws(NBDError) {
        var export: [UInt8] = []
        export.appendBigEndian(NBDWire.infoExport)
        try reply(number, NBDWire.replyInfo, export + exportFacts)
        var sizes: [UInt8] = []
        sizes.appendBigEndian(NBDWire.infoBlockSize)
        sizes.appendBigEndian(UInt32(1))
        sizes.appendBigEndian(UInt32(64 << 10))
        sizes.appendBigEndian(UInt32(NBDWire.longestRead))
        try reply(number, NBDWire.replyInfo, sizes)
        try reply(number, NBDWire.acknowledgement)
    }

    private func replyContexts(_ number: UInt32, _ payload: [UInt8]) throws(NBDError) {
        let isSet = number == NBDWire.Option.setMetaContext.rawValue
        // A later choice replaces an earlier one, even if it is refused.
        if isSet { sendsAllocation = false }
        guard let query = try? NBDContextQuery(payload), isStructured || !isSet else {
            return try reply(number, NBDWire.errorInvalid)
        }
        if query.names(allocation: !isSet) {
            if isSet { sendsAllocation = true }
            var context: [UInt8] = []
            context.appendBigEndian(isSet ? NBDWire.allocationContextID : 0)
            context += NBDWire.allocationContext.utf8
            try reply(number, NBDWire.replyMetaContext, context)
        }
        try reply(number, NBDWire.acknowledgement)
    }

    /// The length of the disk, and what this server can do.
    private var exportFacts: [UInt8] {
        var flags: NBDWire.TransmissionFlags = [.hasFlags, .readOnly, .canMultiConnect]
        if isStructured { flags.insert(.sendDontFragment) }
        var facts: [UInt8] = []
        facts.appendBigEndian(disk.byteCount)
        facts.appendBigEndian(flags.rawValue)
        return facts
    }

    private func reply(_ option: UInt32, _ type: UInt32, _ payload: [UInt8] = []) throws(NBDError) {
        var reply: [UInt8] = []
        reply.appendBigEndian(NBDWire.optionReplyMagic)
        reply.appendBigEndian(option)
        reply.appendBigEndian(type)
        reply.appendBigEndian(UInt32(payload.count))
        try transport.send(reply + payload)
    }
}
