// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageModel
import LinuxSystem

/// The decoded chunks of a capture that were used last. Several threads that need one chunk decode it once.
final class ChunkCache: Sendable {
    /// A chunk that is being decoded, for the threads that wait for it. Touched only under the lock.
    private final class Ticket {
        var result: Result<[UInt8], ImageError>?
    }
    private struct Held {
        var content: [UInt8]
        /// The number of the last use.
        var lastUse: UInt64
    }
    private struct State {
        /// By the place on the disk.
        var held: [UInt64: Held] = [:]
        var decoding: [UInt64: Ticket] = [:]
        var heldByteCount = 0
        var useCount: UInt64 = 0
        var decodeCount = 0
        /// Decoders that no thread uses.
        var decoders: [ChunkDecoder] = []
        var failure: ImageError?
    }
    private enum Step {
        case ready([UInt8])
        case wait(Ticket)
        case decode(Ticket)
    }

    private let index: any CaptureIndex
    /// Upper bound on decoded bytes; one chunk is held in any case.
    let byteCount: Int
    private let state = Monitor(State())

    init(_ index: any CaptureIndex, byteCount: Int) {
        self.index = index
        self.byteCount = byteCount
    }

    /// The number of decoded chunks so far.
    var decodeCount: Int { state.update { $0.decodeCount } }
    /// The decoded bytes in memory.
    var heldByteCount: Int { state.update { $0.heldByteCount } }
    /// The first damage found.
    var failure: ImageError? { state.update { $0.failure } }

    /// The content of the data chunk that starts at `start`.
    func content(at start: UInt64) throws(ImageError) -> [UInt8] {
        let step = state.update { state -> Step in
            state.useCount += 1
            if state.held[start] != nil { state.held[start]?.lastUse = state.useCount }
            if let held = state.held[start] { return .ready(held.content) }
            if let ticket = state.decoding[start] { return .wait(ticket) }
            let ticket = Ticket()
            state.decoding[start] = ticket
            return .decode(ticket)
        }
        switch step {
        case .ready(let content): return content
        case .wait(let ticket): return try state.wait { _ in ticket.result }.get()
        case .decode(let ticket):
            let result = Result { () throws(ImageError) in try decode(start) }
            state.update { state in
                ticket.result = result
                state.decoding[start] = nil
                switch result {
                case .success(let content): hold(content, at: start, &state)
                // Not kept: the next read tries again.
                case .failure(let error): state.failure = state.failure ?? error
                }
            }
            return try result.get()
        }
    }

    private func hold(_ content: [UInt8], at start: UInt64, _ state: inout State) {
        state.held[start] = Held(content: content, lastUse: state.useCount)
        state.heldByteCount += content.count
        while state.heldByteCount > byteCount, state.held.count > 1,
            let oldest = state.held.min(by: { $0.value.lastUse < $1.value.lastUse })
        {
            state.held[oldest.key] = nil
            state.heldByteCount -= oldest.value.content.count
        }
    }

    private func decode(_ start: UInt64) throws(ImageError) -> [UInt8] {
        let place = try index.content(at: start)
        let record = place.record
        let decoder = try takeDecoder()
        defer { state.update { $0.decoders.append(decoder) } }
        var stored = [UInt8](repeating: 0, count: record.storedByteCount)
        var content = [UInt8](repeating: 0, count: Int(clamping: record.range.byteCount))
        let result = content.withUnsafeMutableBytes { content in
            Result { () throws(ImageError) in
                let fetched = stored.withUnsafeMutableBytes { stored in
                    Result { () throws(ImageError) in try place.fetch(stored) }
                }
                do throws(ImageError) {
                    try fetched.get()
                    let decoded = stored.withUnsafeBytes { stored in
                        Result { () throws(CodecError) in try decoder.decode(stored, id: record.hash, into: content) }
                    }
                    do throws(CodecError) { try decoded.get() } catch {
                        throw index.header.damage(name: index.name, "\(error)", at: place.position, record.range)
                    }
                } catch {
                    guard place.otherCopies?(content) == true else { throw error }
                }
            }
        }
        try result.get()
        return content
    }

    private func takeDecoder() throws(ImageError) -> ChunkDecoder {
        let idle = state.update { state in
            state.decodeCount += 1
            return state.decoders.popLast()
        }
        if let idle { return idle }
        do throws(CodecError) { return try ChunkDecoder(index.coding) } catch {
            throw .unsupported(name: index.name, what: "\(error)")
        }
    }
}
