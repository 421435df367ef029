// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import LinuxSystem

/// Decodes the next chunks of a capture that is read front to back, on threads of its own. A read at a random place
/// decodes nothing but its own chunk.
final class ReadAhead: Sendable {
    /// A reader: the chunk it read last, and the next one with data.
    private struct Stream {
        var current: UInt64
        var next: UInt64
    }
    private struct State {
        var streams: [Stream] = []
        /// The chunks to decode.
        var queue: [UInt64] = []
        var isClosed = false
    }
    /// Upper bound on the readers that are followed, and on the runs without data between two chunks of a reader.
    private static let (mostStreams, mostRuns) = (16, 8)
    private static let threadCount = 2

    private let index: any CaptureIndex
    private let state = Monitor(State())
    /// The chunks decoded ahead of each reader.
    private let depth: Int
    private let threads: [WorkerThread]

    init(_ index: any CaptureIndex, _ cache: ChunkCache) {
        self.index = index
        // Chunks decoded ahead must not drive out those that are read.
        let depth = min(2, cache.byteCount / index.header.manifest.chunkByteCount / 4)
        self.depth = depth
        let state = state
        threads = (0..<(depth > 0 ? Self.threadCount : 0)).compactMap { _ in
            // Without threads (a limit of processes), each read decodes its own chunk.
            try? WorkerThread {
                while let chunk = Self.take(state) { _ = try? cache.content(at: chunk) }
            }
        }
    }

    /// Ends the threads; call it once.
    func end() {
        state.update {
            $0.isClosed = true
            $0.queue = []
        }
        for thread in threads { thread.join() }
    }

    private static func take(_ state: Monitor<State>) -> UInt64? {
        state.wait { state -> UInt64?? in
            if state.isClosed { return .some(nil) }
            return state.queue.isEmpty ? nil : .some(state.queue.removeFirst())
        }
    }

    /// Notes that a chunk is read, and has those behind it decoded if the one before it was read last.
    func note(_ chunk: ByteRange) {
        guard !threads.isEmpty,
            !state.update({ $0.streams.contains { $0.current == chunk.lowerBound } }),
            let next = nextData(from: chunk.upperBound)
        else { return }
        let stream = Stream(current: chunk.lowerBound, next: next.lowerBound)
        let isSequential = state.update { state in
            if let index = state.streams.firstIndex(where: { $0.next == chunk.lowerBound }) {
                state.streams[index] = stream
                return true
            }
            if state.streams.count == Self.mostStreams { state.streams.removeFirst() }
            state.streams.append(stream)
            return false
        }
        guard isSequential else { return }
        var ahead = [next.lowerBound]
        if depth > 1, let second = nextData(from: next.upperBound) { ahead.append(second.lowerBound) }
        state.update { state in
            for place in ahead where !state.queue.contains(place) && state.queue.count < Self.mostStreams {
                state.queue.append(place)
            }
        }
    }

    /// The first chunk with data at or behind `offset`; `nil` if it is too far away, or the index is damaged there.
    private func nextData(from offset: UInt64) -> ByteRange? {
        var position = offset
        for _ in 0..<Self.mostRuns where position < index.header.manifest.geometry.byteCount {
            guard let record = try? index.record(at: position) else { return nil }
            if record.kind == .data { return record.range }
            position = record.range.upperBound
        }
        return nil
    }
}
