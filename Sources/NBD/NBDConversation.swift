// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A client's side of one connection. After an error other than `refused`, it cannot be used any more.
package final class NBDConversation {
    private let transport: any NBDTransport
    /// The length of the disk in bytes.
    package let byteCount: UInt64
    /// The longest read that the server takes, in bytes.
    private let longestRead: Int
    private let isStructured: Bool
    /// The server's number of `base:allocation`; `nil` if it does not have it.
    private let allocationID: UInt32?
    private var cookie: UInt64 = 0

    /// Greets the server and opens an export.
    package init(_ transport: any NBDTransport, export: String) throws(NBDError) {
        self.transport = transport
        let options = NBDClientOptions(transport)
        try options.greet()
        isStructured = try options.chooseStructuredReplies()
        allocationID = isStructured ? try options.chooseAllocation(export: export) : nil
        let facts = try options.open(export: export)
        byteCount = facts.byteCount
        longestRead = facts.longestRead
    }

    /// Tells the server that no more follows.
    package func disconnect() {
        try? transport.send(NBDRequest(.disconnect, cookie: cookie, offset: 0, byteCount: 0).bytes)
    }

    /// Fills all of `buffer` from `offset` on; the range must be on the disk.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(NBDError) {
        var done = 0
        while done < buffer.count {
            let end = min(buffer.count, done + longestRead)
            let part = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[done..<end])
            let request = try send(.read, at: offset + UInt64(done), byteCount: UInt32(part.count))
            if isStructured {
                unsafe try receiveStructured(request, into: part)
            } else {
                try receiveSimple(request)
                unsafe try transport.receive(into: part)
            }
            done = end
        }
    }

    /// The extents at the start of `range`, which is on the disk and not empty.
    package func extents(in range: ByteRange) throws(NBDError) -> [DiskExtent] {
        guard let allocationID else { return [DiskExtent(.data, byteCount: range.byteCount)] }
        // Half of what 32 bits hold; a multiple of every block size.
        let byteCount = min(range.byteCount, 1 << 31)
        let request = try send(.blockStatus, at: range.lowerBound, byteCount: UInt32(byteCount))
        var extents: [DiskExtent]?
        var refusal: NBDError?
        try receiveChunks(request) { (chunk) throws(NBDError) in
            guard chunk.type == NBDWire.Chunk.blockStatus, extents == nil else {
                let error = try error(in: chunk)
                refusal = refusal ?? error
                return
            }
            extents = try self.extents(in: chunk, of: request, allocationID)
        }
        if let refusal { throw refusal }
        guard let extents else { throw .invalid("a reply without extents") }
        return extents
    }

    private func extents(
        in chunk: ReplyChunk, of request: NBDRequest, _ allocationID: UInt32
    ) throws(NBDError) -> [DiskExtent] {
        // One extent for each 8 bytes; qemu sends up to 128 Ki.
        guard chunk.byteCount >= 12, (chunk.byteCount - 4) % 8 == 0, chunk.byteCount <= 4 + (1 << 20),
            try transport.receiveNumber(UInt32.self) == allocationID
        else { throw .invalid("extents of \(chunk.byteCount) bytes") }
        let payload = try transport.receive(chunk.byteCount - 4)
        var extents: [DiskExtent] = []
        var rest = UInt64(request.byteCount)
        for position in stride(from: 0, to: payload.count, by: 8) {
            guard rest > 0, let byteCount = try? payload.bigEndian(UInt32.self, at: position), byteCount > 0,
                let state = try? payload.bigEndian(UInt32.self, at: position + 4)
            else { throw .invalid("extents longer than asked for") }
            // The last one may be longer than the request.
            let part = min(rest, UInt64(byteCount))
            let kind: DiskExtent.Kind = state & NBDWire.stateZero != 0 ? .zero : .data
            if let last = extents.last, last.kind == kind {
                extents[extents.count - 1].byteCount += part
            } else {
                extents.append(DiskExtent(kind, byteCount: part))
            }
            rest -= part
        }
        return extents
    }

    // MARK: Requests and replies

    private func send(
        _ command: NBDWire.Command, at offset: UInt64, byteCount: UInt32
    ) throws(NBDError) -> NBDRequest {
        cookie &+= 1
        let request = NBDRequest(command, cookie: cookie, offset: offset, byteCount: byteCount)
        try transport.send(request.bytes)
        return request
    }

    private func receiveSimple(_ request: NBDRequest) throws(NBDError) {
        guard try transport.receiveNumber(UInt32.self) == NBDWire.simpleReplyMagic else {
            throw .invalid("a reply's mark")
        }
        let number = try transport.receiveNumber(UInt32.self)
        guard try transport.receiveNumber(UInt64.self) == request.cookie else {
            throw .invalid("a reply to no request")
        }
        guard number == 0 else { throw .refused(number, "") }
    }

    /// The head of a chunk; its payload follows.
    private struct ReplyChunk {
        var type: UInt16
        var byteCount: Int
    }
    /// Upper bound on the errors in one reply.
    private static let mostErrors = 64

    /// Receives the chunks of a reply up to the last one; `body` must receive the whole payload of each.
    private func receiveChunks(
        _ request: NBDRequest, _ body: (ReplyChunk) throws(NBDError) -> Void
    ) throws(NBDError) {
        var errorCount = 0
        while true {
            let magic = try transport.receiveNumber(UInt32.self)
            // Even then, a server may refuse a request by a simple reply.
            if magic == NBDWire.simpleReplyMagic {
                let number = try transport.receiveNumber(UInt32.self)
                guard try transport.receiveNumber(UInt64.self) == request.cookie, number != 0 else {
                    throw .invalid("a simple reply")
                }
                throw .refused(number, "")
            }
            guard magic == NBDWire.structuredReplyMagic else { throw .invalid("a reply's mark") }
            let flags = try transport.receiveNumber(UInt16.self)
            let type = try transport.receiveNumber(UInt16.self)
            guard try transport.receiveNumber(UInt64.self) == request.cookie else {
                throw .invalid("a reply to no request")
            }
            let byteCount = try transport.receiveNumber(UInt32.self)
            guard byteCount <= NBDWire.longestRead + 8 else { throw .invalid("a chunk of \(byteCount) bytes") }
            let isLast = flags & NBDWire.Chunk.done != 0
            if type & NBDWire.Chunk.errorBit != 0 { errorCount += 1 }
            guard errorCount <= Self.mostErrors else { throw .invalid("too many errors") }
            if type == NBDWire.Chunk.none {
                guard isLast, byteCount == 0 else { throw .invalid("an empty chunk") }
            } else {
                try body(ReplyChunk(type: type, byteCount: Int(byteCount)))
            }
            if isLast { return }
        }
    }

    /// Receives a chunk that should be an error.
    /// - Throws: if it is another one.
    private func error(in chunk: ReplyChunk) throws(NBDError) -> NBDError {
        guard chunk.type & NBDWire.Chunk.errorBit != 0, chunk.byteCount >= 6, chunk.byteCount <= 4096 + 14 else {
            throw .invalid("a chunk of the type \(chunk.type) with \(chunk.byteCount) bytes")
        }
        let payload = try transport.receive(chunk.byteCount)
        guard let number = try? payload.bigEndian(UInt32.self, at: 0), number != 0,
            let textByteCount = try? payload.bigEndian(UInt16.self, at: 4),
            let text = try? payload.bytes(at: 6, count: Int(textByteCount))
        else { throw .invalid("an error's text") }
        // A server's text ends up on a terminal.
        let safe = text.map { (0x20...0x7E).contains($0) ? $0 : UInt8(ascii: "?") }
        return .refused(number, String(decoding: safe, as: UTF8.self))
    }

    private func receiveStructured(
        _ request: NBDRequest, into buffer: UnsafeMutableRawBufferPointer
    ) throws(NBDError) {
        var filled = AllocationMap(byteCount: UInt64(buffer.count))
        var refusal: NBDError?
        try receiveChunks(request) { (chunk) throws(NBDError) in
            switch chunk.type {
            case NBDWire.Chunk.offsetData:
                guard chunk.byteCount > 8 else { throw .invalid("a chunk without data") }
                let part = try part(of: request, byteCount: chunk.byteCount - 8, &filled)
                unsafe try transport.receive(into: UnsafeMutableRawBufferPointer(rebasing: buffer[part]))
            case NBDWire.Chunk.offsetHole:
                guard chunk.byteCount == 12 else { throw .invalid("a hole of \(chunk.byteCount) bytes") }
                let part = try part(of: request, byteCount: nil, &filled)
                unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[part]).initializeMemory(
                    as: UInt8.self, repeating: 0)
            default:
                let error = try error(in: chunk)
                refusal = refusal ?? error
            }
        }
        if let refusal { throw refusal }
        guard filled.covers(0..<UInt64(buffer.count)) else { throw .invalid("a reply with too few bytes") }
    }

    /// Receives the place of a chunk, and marks it as filled: every byte may come once.
    /// - Parameter byteCount: the length; `nil` to receive that too.
    private func part(
        of request: NBDRequest, byteCount: Int?, _ filled: inout AllocationMap
    ) throws(NBDError) -> Range<Int> {
        let offset = try transport.receiveNumber(UInt64.self)
        let byteCount = if let byteCount { UInt64(byteCount) } else { UInt64(try transport.receiveNumber(UInt32.self)) }
        guard offset >= request.offset, byteCount > 0,
            let range = ByteRange(offset: offset - request.offset, byteCount: byteCount),
            range.upperBound <= UInt64(request.byteCount), filled.ranges(in: range).isEmpty
        else { throw .invalid("bytes that were not asked for") }
        filled.insert(range)
        return Int(range.lowerBound)..<Int(range.upperBound)
    }
}
