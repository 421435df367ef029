// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A server's side of one connection: it serves one disk, read-only, under every export name.
package final class NBDSession {
    let disk: any ServedDisk
    let transport: any NBDTransport
    private let noteFailure: (BlockIOError) -> Void
    /// What the client has asked for.
    var (isStructured, sendsAllocation) = (false, false)

    /// - Parameter noteFailure: receives every failed read of the disk.
    package init(
        _ disk: any ServedDisk, _ transport: any NBDTransport, noteFailure: @escaping (BlockIOError) -> Void
    ) {
        self.disk = disk
        self.transport = transport
        self.noteFailure = noteFailure
    }

    /// Answers requests until the client disconnects.
    package func transmit() throws(NBDError) {
        while true {
            let bytes = try transport.receive(NBDWire.requestByteCount)
            let request: NBDRequest
            do throws(ParsingError) { request = try NBDRequest(bytes) } catch { throw .invalid("\(error)") }
            guard try answer(request) else { return }
        }
    }

    /// Answers one request; `false` to disconnect.
    private func answer(_ request: NBDRequest) throws(NBDError) -> Bool {
        switch request.command {
        case .disconnect: return false
        case .read: try read(request)
        case .blockStatus: try sendStatus(request)
        case .write:
            // Its bytes follow: they must be passed over to find the next request.
            guard request.byteCount <= NBDWire.longestRead else {
                throw .invalid("a write of \(request.byteCount) bytes")
            }
            try transport.skip(Int(request.byteCount))
            try sendError(request, .notPermitted, "the disk is served read-only")
        case .trim, .writeZeroes: try sendError(request, .notPermitted, "the disk is served read-only")
        case .flush, .cache, nil: try sendError(request, .invalid, "an unknown command")
        }
        return true
    }

    // MARK: Reading

    /// The longest run of bytes in one chunk of a structured reply.
    private static let longestPiece: UInt64 = 1 << 20
    /// Shorter holes are sent as bytes: each chunk has a head of 20 bytes, and takes both sides a call.
    private static let shortestHole: UInt64 = 4096

    private func read(_ request: NBDRequest) throws(NBDError) {
        guard let range = request.range(on: disk.byteCount) else {
            return try sendError(request, .invalid, "the disk ends at byte \(disk.byteCount)")
        }
        guard range.byteCount <= NBDWire.longestRead else {
            return try sendError(request, .overflow, "a read has at most \(NBDWire.longestRead) bytes")
        }
        let isWhole = NBDWire.CommandFlags(rawValue: request.flags).contains(.dontFragment)
        guard isStructured else {
            var reply: [UInt8] = []
            reply.appendBigEndian(NBDWire.simpleReplyMagic)
            reply.appendBigEndian(UInt32(0))
            reply.appendBigEndian(request.cookie)
            try send(reply, range, of: request)
            return
        }
        guard !isWhole else {
            try sendData(range, of: request)
            return
        }
        var position = range.lowerBound
        while position < range.upperBound {
            let runs: [DiskExtent]
            do throws(BlockIOError) { runs = try self.runs(in: position..<range.upperBound) } catch {
                noteFailure(error)
                return try sendError(request, .ioError, error.reason, at: position)
            }
            for run in runs {
                let end = position + run.byteCount
                if run.kind == .data {
                    guard try sendPieces(position..<end, of: request) else { return }
                } else {
                    var payload: [UInt8] = []
                    payload.appendBigEndian(position)
                    payload.appendBigEndian(UInt32(run.byteCount))
                    try sendChunk(NBDWire.Chunk.offsetHole, request, isLast: end == range.upperBound, payload)
                }
                position = end
            }
        }
    }

    /// The runs of data and of holes at the start of `range`: at least one. The disk is asked once for all of them:
    /// each answer costs it as much as the extents that it holds.
    private func runs(in range: ByteRange) throws(BlockIOError) -> [DiskExtent] {
        var runs: [DiskExtent] = []
        var rest = range.byteCount
        for extent in try disk.extents(in: range) where rest > 0 && extent.byteCount > 0 {
            let byteCount = min(extent.byteCount, rest)
            let kind: DiskExtent.Kind = extent.kind != .data && byteCount >= Self.shortestHole ? .zero : .data
            if runs.last?.kind == kind {
                runs[runs.count - 1].byteCount += byteCount
            } else {
                runs.append(DiskExtent(kind, byteCount: byteCount))
            }
            rest -= byteCount
        }
        // A disk that tells nothing has data.
        return runs.isEmpty ? [DiskExtent(.data, byteCount: range.byteCount)] : runs
    }

    /// Sends data in chunks; `false` if a read failed, which ends the reply.
    private func sendPieces(_ range: ByteRange, of request: NBDRequest) throws(NBDError) -> Bool {
        let end = request.offset + UInt64(request.byteCount)
        var position = range.lowerBound
        while position < range.upperBound {
            let piece = position..<min(range.upperBound, position + Self.longestPiece)
            guard try sendData(piece, of: request, isLast: piece.upperBound == end) else { return false }
            position = piece.upperBound
        }
        return true
    }

    /// Sends data as one chunk; `false` if the read failed.
    @discardableResult
    private func sendData(_ range: ByteRange, of request: NBDRequest, isLast: Bool = true) throws(NBDError) -> Bool {
        var head = chunkHead(
            NBDWire.Chunk.offsetData, request, isLast: isLast, payloadByteCount: 8 + Int(range.byteCount))
        head.appendBigEndian(range.lowerBound)
        return try send(head, range, of: request)
    }

    /// Sends a head and the bytes of the disk that it announces; if they cannot be read, an error in its place.
    @discardableResult
    private func send(_ head: [UInt8], _ range: ByteRange, of request: NBDRequest) throws(NBDError) -> Bool {
        let disk = disk
        // One buffer for both: one call sends them.
        var bytes = [UInt8](repeating: 0, count: head.count + Int(range.byteCount))
        let result = unsafe bytes.withUnsafeMutableBytes { bytes in
            Result { () throws(BlockIOError) in
                unsafe bytes.copyBytes(from: head)
                unsafe try disk.read(
                    into: UnsafeMutableRawBufferPointer(rebasing: bytes[head.count...]), at: range.lowerBound)
            }
        }
        if case .failure(let error) = result {
            noteFailure(error)
            try sendError(request, .ioError, error.reason, at: range.lowerBound)
            return false
        }
        try transport.send(bytes)
        return true
    }

    // MARK: Extents

    /// Upper bound on the extents in one reply: more are asked for with the next request.
    private static let mostExtents = 4096

    private func sendStatus(_ request: NBDRequest) throws(NBDError) {
        guard sendsAllocation, let range = request.range(on: disk.byteCount) else {
            return try sendError(
                request, .invalid, sendsAllocation ? "the disk ends at byte \(disk.byteCount)" : "no context is set")
        }
        var extents: [DiskExtent]
        do throws(BlockIOError) { extents = try disk.extents(in: range) } catch {
            noteFailure(error)
            return try sendError(request, .ioError, error.reason, at: range.lowerBound)
        }
        if extents.isEmpty { extents = [DiskExtent(.data, byteCount: range.byteCount)] }
        let needsOne = NBDWire.CommandFlags(rawValue: request.flags).contains(.requireOne)
        var payload: [UInt8] = []
        payload.appendBigEndian(NBDWire.allocationContextID)
        var rest = range.byteCount
        for extent in extents.prefix(needsOne ? 1 : Self.mostExtents) where rest > 0 && extent.byteCount > 0 {
            let byteCount = min(extent.byteCount, rest)
            payload.appendBigEndian(UInt32(byteCount))
            payload.appendBigEndian(Self.state(extent.kind))
            rest -= byteCount
        }
        try sendChunk(NBDWire.Chunk.blockStatus, request, isLast: true, payload)
    }

    private static func state(_ kind: DiskExtent.Kind) -> UInt32 {
        switch kind {
        case .data: 0
        case .zero: NBDWire.stateZero
        case .unused: NBDWire.stateHole | NBDWire.stateZero
        }
    }

    // MARK: Replies

    private func chunkHead(
        _ type: UInt16, _ request: NBDRequest, isLast: Bool, payloadByteCount: Int
    ) -> [UInt8] {
        var head: [UInt8] = []
        head.appendBigEndian(NBDWire.structuredReplyMagic)
        head.appendBigEndian(isLast ? NBDWire.Chunk.done : 0)
        head.appendBigEndian(type)
        head.appendBigEndian(request.cookie)
        head.appendBigEndian(UInt32(payloadByteCount))
        return head
    }

    private func sendChunk(
        _ type: UInt16, _ request: NBDRequest, isLast: Bool, _ payload: [UInt8]
    ) throws(NBDError) {
        try transport.send(chunkHead(type, request, isLast: isLast, payloadByteCount: payload.count) + payload)
    }

    /// - Parameter offset: the byte of the disk that could not be read.
    private func sendError(
        _ request: NBDRequest, _ number: NBDWire.ErrorNumber, _ text: String, at offset: UInt64? = nil
    ) throws(NBDError) {
        guard isStructured else {
            var reply: [UInt8] = []
            reply.appendBigEndian(NBDWire.simpleReplyMagic)
            reply.appendBigEndian(number.rawValue)
            reply.appendBigEndian(request.cookie)
            return try transport.send(reply)
        }
        let text = Array(text.utf8.prefix(1024))
        var payload: [UInt8] = []
        payload.appendBigEndian(number.rawValue)
        payload.appendBigEndian(UInt16(text.count))
        payload += text
        if let offset { payload.appendBigEndian(offset) }
        try sendChunk(
            offset == nil ? NBDWire.Chunk.error : NBDWire.Chunk.errorOffset, request, isLast: true, payload)
    }
}
