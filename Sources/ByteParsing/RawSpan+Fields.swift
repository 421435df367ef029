// SPDX-License-Identifier: GPL-3.0-or-later

extension RawSpan {
    /// The little-endian integer at `offset` (bytes).
    /// - Throws: `ParsingError.outOfBounds` if the field is not wholly inside the span.
    package func littleEndian<T: FixedWidthInteger & BitwiseCopyable>(
        _ type: T.Type = T.self, at offset: Int
    ) throws(ParsingError) -> T {
        T(littleEndian: try load(type, at: offset))
    }

    /// The big-endian integer at `offset` (bytes).
    /// - Throws: `ParsingError.outOfBounds` if the field is not wholly inside the span.
    package func bigEndian<T: FixedWidthInteger & BitwiseCopyable>(
        _ type: T.Type = T.self, at offset: Int
    ) throws(ParsingError) -> T {
        T(bigEndian: try load(type, at: offset))
    }

    /// `byteCount` bytes from `offset` on, copied.
    /// - Throws: `ParsingError.outOfBounds` if they are not wholly inside the span.
    package func bytes(at offset: Int, count byteCount: Int) throws(ParsingError) -> [UInt8] {
        try checkBounds(offset, byteCount)
        // Safety: bounds were checked above.
        return (offset..<offset + byteCount).map { unsafe unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
    }

    /// The text before the first NUL of a fixed field, as UTF-8 (malformed parts replaced).
    /// - Throws: `ParsingError.outOfBounds` if the field is not wholly inside the span.
    package func text(at offset: Int, count byteCount: Int) throws(ParsingError) -> String {
        String(decoding: try bytes(at: offset, count: byteCount).prefix { $0 != 0 }, as: UTF8.self)
    }

    private func load<T: FixedWidthInteger & BitwiseCopyable>(
        _ type: T.Type, at offset: Int
    ) throws(ParsingError) -> T {
        try checkBounds(offset, MemoryLayout<T>.size)
        // Safety: bounds were checked above, and every bit pattern is an integer.
        return unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: T.self)
    }

    private func checkBounds(_ offset: Int, _ byteCount: Int) throws(ParsingError) {
        guard offset >= 0, byteCount >= 0, offset <= self.byteCount, byteCount <= self.byteCount - offset else {
            throw .outOfBounds(offset: offset, byteCount: byteCount, available: self.byteCount)
        }
    }
}

extension [UInt8] {
    /// The little-endian integer at `offset` (bytes).
    /// - Throws: `ParsingError.outOfBounds` if the field is not wholly inside the array.
    package func littleEndian<T: FixedWidthInteger & BitwiseCopyable>(
        _ type: T.Type = T.self, at offset: Int
    ) throws(ParsingError) -> T {
        // Safety: the span does not outlive this call.
        unsafe try span.bytes.littleEndian(type, at: offset)
    }

    /// The big-endian integer at `offset` (bytes).
    /// - Throws: `ParsingError.outOfBounds` if the field is not wholly inside the array.
    package func bigEndian<T: FixedWidthInteger & BitwiseCopyable>(
        _ type: T.Type = T.self, at offset: Int
    ) throws(ParsingError) -> T {
        // Safety: the span does not outlive this call.
        unsafe try span.bytes.bigEndian(type, at: offset)
    }

    /// `byteCount` bytes from `offset` on.
    /// - Throws: `ParsingError.outOfBounds` if they are not wholly inside the array.
    package func bytes(at offset: Int, count byteCount: Int) throws(ParsingError) -> [UInt8] {
        guard offset >= 0, byteCount >= 0, offset <= count, byteCount <= count - offset else {
            throw .outOfBounds(offset: offset, byteCount: byteCount, available: count)
        }
        return Array(self[offset..<offset + byteCount])
    }

    /// The text before the first NUL of a fixed field, as UTF-8 (malformed parts replaced).
    /// - Throws: `ParsingError.outOfBounds` if the field is not wholly inside the array.
    package func text(at offset: Int, count byteCount: Int) throws(ParsingError) -> String {
        String(decoding: try bytes(at: offset, count: byteCount).prefix { $0 != 0 }, as: UTF8.self)
    }

    /// Appends `value` in little-endian order.
    package mutating func appendLittleEndian<T: FixedWidthInteger>(_ value: T) {
        var rest = value
        for _ in 0..<MemoryLayout<T>.size {
            append(UInt8(truncatingIfNeeded: rest))
            rest = MemoryLayout<T>.size == 1 ? 0 : rest >> 8
        }
    }

    /// Stores `value` in little-endian order at `offset`, which must be inside (otherwise a programming error): for
    /// bytes that the program itself lays out.
    package mutating func setLittleEndian<T: FixedWidthInteger>(_ value: T, at offset: Int) {
        var encoded: [UInt8] = []
        encoded.appendLittleEndian(value)
        replaceSubrange(offset..<offset + encoded.count, with: encoded)
    }
}
