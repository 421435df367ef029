// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageFiles
import ImageModel
import LinuxSystem
import Synchronization
import SystemPackage

/// A disk in a compressed file, decompressed while it is read. Reading backwards decompresses from the start.
final class StreamedDisk: DiskFile {
    private struct State {
        var stream: PieceContent?
        var position: UInt64 = 0
        var failure: ImageError?
    }

    private let facts: DiskFacts
    private let cancellation: Cancellation
    private let state = Mutex(State())

    init(_ facts: DiskFacts, _ cancellation: Cancellation) {
        self.facts = facts
        self.cancellation = cancellation
    }

    var byteCount: UInt64 { facts.byteCount }
    var file: FileBytes { facts.file }
    var name: String { facts.file.name }
    var isRandomAccess: Bool { false }
    var hasUncheckedParts: Bool { facts.hasUncheckedParts }
    var descriptor: Int32? { nil }
    var failure: ImageError? { state.withLock { $0.failure } }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        func failure(_ reason: String, _ errorNumber: Int32 = 0) -> BlockIOError {
            BlockIOError(
                .read, name: name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: errorNumber,
                reason: reason)
        }
        try checkedRange(at: offset, count: UInt64(buffer.count))
        let result = state.withLock { state in
            Result { () throws(ImageError) in
                let stream = try stream(at: offset, &state)
                let count = unsafe try stream.read(into: buffer)
                state.position += UInt64(count)
                guard count == buffer.count else { throw .changed(name: name) }
            }
        }
        do throws(ImageError) { try result.get() } catch {
            // Its place is unknown now.
            state.withLock { $0 = State(failure: error) }
            if case .system(let call) = error { throw failure("\(call)", call.errno.rawValue) }
            throw failure("\(error)")
        }
    }

    /// The stream, positioned at `offset`.
    private func stream(at offset: UInt64, _ state: inout State) throws(ImageError) -> PieceContent {
        let known = offset < state.position ? nil : state.stream
        let stream = if let known { known } else { try PieceContent(facts.files, cancellation) }
        if known == nil { state = State(stream: stream) }
        let distance = offset - state.position
        guard try stream.skip(distance) == distance else { throw .changed(name: name) }
        state.position = offset
        return stream
    }

    func confirmEnd() throws(ImageError) {
        let rest = state.withLock { state in
            Result { () throws(ImageError) in try stream(at: byteCount, &state).next(1) }
        }
        guard try rest.get().isEmpty else { throw .changed(name: name) }
        for file in facts.files { try file.confirmUnchanged() }
    }
}
