// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import LinuxSystem
import Synchronization

/// A capture presented as the captured disk: the source of `copy`. Bytes not in use read as zeros.
///
/// Every byte is read once, sequentially, but by several threads, of which one may lag: skipped chunks are held until
/// their bytes in use are read. A separate thread decodes ahead, within 32 MiB.
package final class ImageContents: BlockReader {
    /// A decoded record, the end, or an error.
    private enum Item: Sendable {
        /// A range of the disk and its content; `nil` for zeros.
        case record(ByteRange, [UInt8]?)
        case end(ImageEnding?)
        case failure(ImageError)
    }
    /// A decoded chunk.
    private struct Held {
        var range: ByteRange
        var content: [UInt8]
        /// The number of its bytes in use not read yet.
        var unread: UInt64
    }
    private struct State {
        /// The end of the decoded records on the disk.
        var reached: UInt64 = 0
        /// Decoded chunks of data not completely read yet, ascending.
        var held: [Held] = []
        /// Decoded ranges of zeros, ascending; adjacent ones merged.
        var zeros: [ByteRange] = []
        var isEnded = false
        var ending: ImageEnding?
        var failure: ImageError?
    }
    /// Limits on unread chunks. Readers of every byte in use never hold more than one chunk per thread.
    private static let (mostHeldBytes, leastHeldChunks, mostZeroRanges) = (64 << 20, 16, 1 << 16)

    /// The reader; once the thread runs, only the thread touches it.
    private final class Source: @unchecked Sendable {
        let reader: any ImageReader
        init(_ reader: any ImageReader) { self.reader = reader }
    }

    /// The length of the disk in bytes.
    package let byteCount: UInt64
    /// The unit that the disk was addressed in, in bytes.
    package let logicalSectorSize: Int
    /// The capture.
    package let name: String
    private let header: ImageHeader
    private let items: BoundedQueue<Item>
    private let thread: WorkerThread
    private let state = Mutex(State())

    /// Presents a capture from its first record on, and takes over the reader, which must not be used elsewhere. Data
    /// lost by a reader with a `salvage` reads as zeros.
    package init(_ reader: any ImageReader) throws {
        let manifest = reader.header.manifest
        byteCount = manifest.geometry.byteCount
        logicalSectorSize = manifest.geometry.logicalSectorSize
        name = reader.name
        header = reader.header
        // Besides the queue, the decoding thread and the reading thread hold one item each.
        let items = BoundedQueue<Item>(capacity: max(1, (32 << 20) / manifest.chunkByteCount - 2))
        let source = Source(reader)
        let decoder = Result { () throws(CodecError) in try ChunkDecoder(reader.coding) }
        _ = try decoder.get()
        self.items = items
        thread = try WorkerThread { Self.decode(source.reader, into: items) }
    }

    deinit {
        items.cancel()
        thread.join()
    }

    /// Fills all of `buffer` from `offset` on.
    /// - Throws: `BlockIOError`, with the damage of the capture as its reason; also for bytes that were already read.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        func failed(_ reason: String) -> BlockIOError {
            BlockIOError(
                .read, name: name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: 0, reason: reason)
        }
        try checkedRange(at: offset, count: UInt64(buffer.count))
        let result = state.withLock { state in
            Result { () throws(BlockIOError) in
                var done = 0
                while done < buffer.count {
                    let position = offset + UInt64(done)
                    // One failure fails everything after it.
                    if let failure = state.failure { throw failed("\(failure)") }
                    guard position < state.reached else {
                        advance(&state)
                        continue
                    }
                    let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
                    let count = unsafe take(from: &state, at: position, into: rest)
                    guard count > 0 else { throw failed("it is read sequentially, and these bytes are no longer held") }
                    done += count
                }
            }
        }
        try result.get()
    }

    /// Copies the bytes of one record at `position`.
    /// - Returns: the number of bytes; 0 if they are no longer held.
    private func take(
        from state: inout State, at position: UInt64, into target: UnsafeMutableRawBufferPointer
    ) -> Int {
        if let index = state.held.lastIndex(where: { $0.range.contains(position) }) {
            let range = state.held[index].range
            let count = min(target.count, Int(clamping: range.upperBound - position))
            let start = Int(position - range.lowerBound)
            unsafe state.held[index].content.withUnsafeBytes { content in
                unsafe target.copyMemory(from: UnsafeRawBufferPointer(rebasing: content[start..<start + count]))
            }
            let read = usedByteCount(position..<position + UInt64(count))
            state.held[index].unread -= min(read, state.held[index].unread)
            if state.held[index].unread == 0 { state.held.remove(at: index) }
            return count
        }
        let count: Int
        if let range = state.zeros.last(where: { $0.contains(position) }) {
            count = min(target.count, Int(clamping: range.upperBound - position))
        } else {
            // No longer held; but bytes not in use are zeros in any case.
            count = unusedByteCount(from: position, atMost: target.count)
        }
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[..<count]).initializeMemory(
            as: UInt8.self, repeating: 0)
        return count
    }

    /// The number of bytes from `position` on that are not in use by the map of their region.
    private func unusedByteCount(from position: UInt64, atMost limit: Int) -> Int {
        guard let index = header.manifest.regions.firstIndex(where: { $0.range.contains(position) }) else { return 0 }
        let region = header.manifest.regions[index].range
        let window = position - region.lowerBound..<min(position + UInt64(limit), region.upperBound) - region.lowerBound
        let end = header.maps[index].ranges(in: window).first?.lowerBound ?? window.upperBound
        return Int(end - window.lowerBound)
    }

    /// The number of bytes of a disk range in use by the maps.
    private func usedByteCount(_ range: ByteRange) -> UInt64 {
        var count: UInt64 = 0
        for (index, region) in header.manifest.regions.enumerated() where region.range.overlaps(range) {
            let part = region.range.clamped(to: range)
            let relative = part.lowerBound - region.range.lowerBound..<part.upperBound - region.range.lowerBound
            count += header.maps[index].ranges(in: relative).reduce(0) { $0 + $1.byteCount }
        }
        return count
    }

    /// Skips the unread rest up to the verified end. A copy of the capture is valid only after this has returned.
    @discardableResult
    package func readToEnd() throws(ImageError) -> ImageEnding? {
        let state = state.withLock { state in
            while !state.isEnded, state.failure == nil { advance(&state) }
            return state
        }
        if let failure = state.failure { throw failure }
        return state.ending
    }

    /// The end of the capture; `nil` before `readToEnd`, and if its end is lost.
    package var ending: ImageEnding? { state.withLock { $0.ending } }
    /// The damage of the capture, if a read has failed because of it.
    package var failure: ImageError? { state.withLock { $0.failure } }

    private func advance(_ state: inout State) {
        switch items.pop() {
        case .record(let range, let content):
            state.reached = range.upperBound
            if let content {
                state.held.append(Held(range: range, content: content, unread: usedByteCount(range)))
                while state.held.count > Self.leastHeldChunks,
                    state.held.reduce(0, { $0 + $1.content.count }) > Self.mostHeldBytes
                { state.held.removeFirst() }
            } else if let last = state.zeros.last, last.upperBound == range.lowerBound {
                state.zeros[state.zeros.count - 1] = last.lowerBound..<range.upperBound
            } else {
                state.zeros.append(range)
                if state.zeros.count > Self.mostZeroRanges { state.zeros.removeFirst(Self.mostZeroRanges / 2) }
            }
        case .end(let ending):
            state.ending = ending
            state.isEnded = true
            state.reached = byteCount
        case .failure(let error): state.failure = error
        // Past the end, or past a failure.
        case nil: state.failure = state.failure ?? .truncated(name: name, at: byteCount)
        }
    }

    /// Body of the thread: queues all records in order, then the end or the error.
    private static func decode(_ reader: any ImageReader, into items: BoundedQueue<Item>) {
        defer { items.close() }
        do {
            let decoder: ChunkDecoder
            do { decoder = try ChunkDecoder(reader.coding) } catch {
                throw ImageError.unsupported(name: reader.name, what: "\(error)")
            }
            var stored: [UInt8] = []
            while let record = try reader.nextRecord() {
                var content: [UInt8]?
                if record.kind == .data { content = try Self.content(record, reader, decoder, &stored) }
                // Closed: there is no reader any more.
                guard items.push(.record(record.range, content)) else { return }
            }
            guard reader.salvage != nil || reader.ending != nil else {
                throw ImageError.truncated(name: reader.name, at: reader.position)
            }
            items.push(.end(reader.ending))
        } catch let error as ImageError {
            items.push(.failure(error))
        } catch {
            items.push(.failure(.unsupported(name: reader.name, what: "\(error)")))
        }
    }

    private static func content(
        _ record: ChunkRecord, _ reader: any ImageReader, _ decoder: ChunkDecoder, _ stored: inout [UInt8]
    ) throws(ImageError) -> [UInt8] {
        let place = reader.position
        // The buffer is reused for the next record.
        if stored.count < record.storedByteCount { stored = [UInt8](repeating: 0, count: record.storedByteCount) }
        let count = record.storedByteCount
        var content = [UInt8](repeating: 0, count: Int(clamping: record.range.byteCount))
        /// Reads another copy of damaged content, if there is one.
        func otherCopy() -> Bool {
            guard let other = unsafe reader.otherCopies() else { return false }
            return unsafe content.withUnsafeMutableBytes { unsafe other($0) }
        }
        let read = unsafe stored.withUnsafeMutableBytes { stored in
            Result { () throws(ImageError) in
                unsafe try reader.readStored(into: UnsafeMutableRawBufferPointer(rebasing: stored[..<count]))
            }
        }
        /// Zeros, if a salvage accepts the chunk as lost.
        func lose(because error: ImageError) throws(ImageError) -> [UInt8] {
            guard let salvage = reader.salvage else { throw error }
            try salvage.lose(record.range, hash: record.hash, because: error)
            return [UInt8](repeating: 0, count: content.count)
        }
        do { try read.get() } catch {
            return try otherCopy() ? content : lose(because: error)
        }
        // The recording of a disk names what it has just read: the name proves nothing.
        let id = reader.coding.codec == .stored ? nil : record.hash
        let decoded = unsafe content.withUnsafeMutableBytes { content in
            unsafe stored.withUnsafeBytes { stored in
                Result { () throws(CodecError) in
                    unsafe try decoder.decode(
                        UnsafeRawBufferPointer(rebasing: stored[..<count]), id: id, into: content)
                }
            }
        }
        do { try decoded.get() } catch {
            return try otherCopy() ? content : lose(because: reader.damageReporter("\(error)", place, record.range))
        }
        return content
    }
}
