// SPDX-License-Identifier: GPL-3.0-or-later

/// Reads a stream in pieces of requested lengths. Never holds more than the requested bytes and one part of the stream.
///
/// A stream of its own: what was not read yet.
final class StreamCursor: ByteStream, @unchecked Sendable {
    // @unchecked: one thread at a time reads.
    private let stream: any ByteStream
    private var held: [UInt8] = []
    private var start = 0
    private var hasEnded = false
    /// The bytes read so far.
    private(set) var position: UInt64 = 0
    private let limit: UInt64

    /// - Parameter limit: the number of bytes after which reading fails.
    init(_ stream: any ByteStream, limit: UInt64) {
        self.stream = stream
        self.limit = limit
    }

    /// Makes `count` bytes available, if there are so many.
    /// - Returns: the number of bytes available, at least `count` except at the end.
    private func fill(_ count: Int) throws(BootFileError) -> Int {
        while held.count - start < count, !hasEnded {
            let more = try stream.next()
            if more.isEmpty {
                hasEnded = true
            } else if start == held.count {
                held = more
                start = 0
            } else {
                held.removeFirst(start)
                held += more
                start = 0
            }
        }
        return held.count - start
    }

    private func advance(_ count: Int) throws(BootFileError) {
        start += count
        position += UInt64(count)
        guard position <= limit else { throw .tooLarge(what: "it unpacks to more than \(limit) bytes") }
    }

    /// The next bytes, which stay; fewer than `count` only at the end.
    func peek(_ count: Int) throws(BootFileError) -> [UInt8] {
        let available = min(try fill(count), count)
        return Array(held[start..<start + available])
    }

    /// The next `count` bytes.
    func take(_ count: Int, _ what: @autoclosure () -> String) throws(BootFileError) -> [UInt8] {
        guard try fill(count) >= count else { throw .damaged(what: "\(what()) is cut off") }
        let bytes = Array(held[start..<start + count])
        try advance(count)
        return bytes
    }

    /// Skips `count` bytes.
    func skip(_ count: UInt64, _ what: @autoclosure () -> String) throws(BootFileError) {
        var left = count
        while left > 0 {
            let available = try fill(1)
            guard available > 0 else { throw .damaged(what: "\(what()) is cut off") }
            let step = Int(min(left, UInt64(available)))
            try advance(step)
            left -= UInt64(step)
        }
    }

    /// Skips bytes of value 0.
    /// - Returns: the first other byte, which stays; `nil` at the end.
    func skipZeros() throws(BootFileError) -> UInt8? {
        while try fill(1) > 0 {
            let zeros = held[start...].firstIndex { $0 != 0 } ?? held.count
            try advance(zeros - start)
            if start < held.count { return held[start] }
        }
        return nil
    }

    /// Takes back the last bytes that were read.
    func giveBack(_ bytes: [UInt8]) {
        held = bytes + held[start...]
        start = 0
        position -= min(position, UInt64(bytes.count))
    }

    /// The rest, in parts.
    func next() throws(BootFileError) -> [UInt8] {
        guard try fill(1) > 0 else { return [] }
        let bytes = start == 0 ? held : Array(held[start...])
        try advance(bytes.count)
        return bytes
    }
}
