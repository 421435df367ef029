// SPDX-License-Identifier: GPL-3.0-or-later

/// The bytes of a file, front to back. One thread at a time reads.
package protocol ByteStream: AnyObject, Sendable {
    /// The next bytes, some hundred KiB at most; empty only at the end.
    func next() throws(BootFileError) -> [UInt8]
}

/// Bytes in memory as a stream.
package final class ArrayStream: ByteStream, @unchecked Sendable {
    // @unchecked: one thread at a time reads.
    private let bytes: [UInt8]
    private var range: Range<Int>
    private let step: Int

    /// - Parameters:
    ///   - range: the part of `bytes` to read, clamped to them.
    ///   - step: the number of bytes returned at a time.
    package init(_ bytes: [UInt8], _ range: Range<Int>? = nil, step: Int = 1 << 18) {
        self.bytes = bytes
        self.range = (range ?? 0..<bytes.count).clamped(to: 0..<bytes.count)
        self.step = max(step, 1)
    }

    package func next() -> [UInt8] {
        let end = min(range.upperBound, range.lowerBound + step)
        let part = Array(bytes[range.lowerBound..<end])
        range = end..<range.upperBound
        return part
    }
}
