// SPDX-License-Identifier: GPL-3.0-or-later

/// A source of a disk's or volume's bytes: a device, an image file, memory, or a failing test double.
///
/// Blocking, and safe for calls from several threads.
package protocol BlockReader: Sendable {
    /// The length in bytes.
    var byteCount: UInt64 { get }
    /// The logical sector size in bytes: 512 or 4096.
    var logicalSectorSize: Int { get }
    /// A name for messages: a path, or a substitute.
    var name: String { get }
    /// Fills all of `buffer` from `offset` on.
    /// - Throws: `BlockIOError` if a byte could not be read or the range ends past `byteCount`.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError)
    /// The ranges whose bytes could not be read so far, and were filled with zeros, ascending: none unless the reader
    /// continues past errors.
    var unreadable: AllocationMap { get }
}

/// A target for a disk's bytes.
package protocol BlockWriter: BlockReader {
    /// Writes all of `buffer` at `offset`.
    /// - Throws: `BlockIOError` if a byte could not be written.
    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(BlockIOError)
    /// Makes every byte of `range` read as zero.
    func writeZeros(_ range: ByteRange) throws(BlockIOError)
    /// Tells the device that the contents of `range` no longer matter. Reads there return undefined bytes afterwards.
    func discard(_ range: ByteRange) throws(BlockIOError)
    /// Waits until all earlier writes are on the medium.
    func flush() throws(BlockIOError)
    /// Drops cached contents, once they are written, so that later reads come from the medium.
    func dropCache() throws(BlockIOError)
}

/// A failed read or write of blocks.
package struct BlockIOError: Error, Sendable, CustomStringConvertible {
    /// The calls that can fail.
    package enum Operation: String, Sendable {
        /// Reading bytes.
        case read
        /// Writing bytes.
        case write
        /// Making bytes zero.
        case zero
        /// Trimming bytes.
        case discard
        /// Waiting for the medium.
        case flush
    }

    /// The call that failed.
    package var operation: Operation
    /// The name of the device or file.
    package var name: String
    /// The offset of the failed call in bytes.
    package var offset: UInt64
    /// The length of the failed call in bytes.
    package var byteCount: UInt64
    /// The system's error number; 0 if the range ends past the end of the device.
    package var errorNumber: Int32
    /// The meaning of `errorNumber`, as a sentence part.
    package var reason: String

    package init(
        _ operation: Operation, name: String, offset: UInt64, byteCount: UInt64, errorNumber: Int32, reason: String
    ) {
        self.operation = operation
        self.name = name
        self.offset = offset
        self.byteCount = byteCount
        self.errorNumber = errorNumber
        self.reason = reason
    }

    package var description: String {
        let count = ByteText.exact(byteCount)
        let place = "at byte \(offset) of \(name)"
        return switch operation {
        case .read: "could not read \(count) \(place): \(reason)"
        case .write: "could not write \(count) \(place): \(reason)"
        case .zero: "could not write zeros over \(count) \(place): \(reason)"
        case .discard: "could not discard \(count) \(place): \(reason)"
        case .flush: "\(name) did not confirm that everything is written: \(reason)"
        }
    }
}

extension BlockReader {
    package var unreadable: AllocationMap { AllocationMap(byteCount: byteCount) }

    /// The bytes of a call: `count` from `offset` on.
    /// - Throws: `BlockIOError` with the error number 0 if they end past `byteCount`.
    @discardableResult
    package func checkedRange(
        _ operation: BlockIOError.Operation = .read, at offset: UInt64, count: UInt64
    ) throws(BlockIOError) -> ByteRange {
        guard let range = ByteRange(offset: offset, byteCount: count), range.upperBound <= byteCount else {
            throw BlockIOError(
                operation, name: name, offset: offset, byteCount: count, errorNumber: 0,
                reason: "that is past its end at byte \(byteCount)")
        }
        return range
    }

    /// `byteCount` bytes from `offset` on.
    package func readBytes(at offset: UInt64, count byteCount: Int) throws(BlockIOError) -> [UInt8] {
        try checkedRange(at: offset, count: UInt64(exactly: byteCount) ?? .max)
        var bytes = [UInt8](repeating: 0, count: byteCount)
        let result = unsafe bytes.withUnsafeMutableBytes { buffer -> Result<Void, BlockIOError> in
            Result { () throws(BlockIOError) in unsafe try read(into: buffer, at: offset) }
        }
        try result.get()
        return bytes
    }
}

extension BlockWriter {
    /// Without a cache, nothing.
    package func dropCache() throws(BlockIOError) {}

    package func writeBytes(_ bytes: [UInt8], at offset: UInt64) throws(BlockIOError) {
        let result = unsafe bytes.withUnsafeBytes { buffer -> Result<Void, BlockIOError> in
            Result { () throws(BlockIOError) in unsafe try write(buffer, at: offset) }
        }
        try result.get()
    }
}

/// A part of another reader, presented as a volume.
package struct BlockSlice: BlockReader {
    package let base: any BlockReader
    /// The part, in bytes of `base`.
    package let range: ByteRange

    /// The part of `base` at `range`; `nil` if it is not inside.
    package init?(_ base: any BlockReader, range: ByteRange) {
        guard (0..<base.byteCount).covers(range) else { return nil }
        self.base = base
        self.range = range
    }

    package var byteCount: UInt64 { range.byteCount }
    package var logicalSectorSize: Int { base.logicalSectorSize }
    /// The name of the base.
    package var name: String { base.name }

    /// Fills all of `buffer` from `offset` of the part on.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let count = UInt64(buffer.count)
        guard count <= byteCount, offset <= byteCount - count else {
            throw BlockIOError(
                .read, name: name, offset: range.lowerBound.addingReportingOverflow(offset).partialValue,
                byteCount: count, errorNumber: 0, reason: "that is past the end of its partition")
        }
        unsafe try base.read(into: buffer, at: range.lowerBound + offset)
    }
}

/// Sizes for messages, in binary units.
package enum ByteText {
    /// "3.2 GiB", "512 bytes".
    package static func rounded(_ byteCount: UInt64) -> String {
        let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
        var value = Double(byteCount)
        var unit = 0
        while value >= 1024, unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        guard unit > 0 else { return "\(byteCount) bytes" }
        let tenths = Int((value * 10).rounded())
        return tenths % 10 == 0 || value >= 100
            ? "\(tenths / 10) \(units[unit])" : "\(tenths / 10).\(tenths % 10) \(units[unit])"
    }

    /// "3.2 GiB/s"; accepts any numbers.
    package static func rate(_ byteCount: UInt64, seconds: Double) -> String {
        "\(rounded(UInt64(exactly: (Double(byteCount) / max(seconds, 0.001)).rounded(.down)) ?? .max))/s"
    }

    /// "4 MiB" where that is exact, else the number of bytes.
    package static func exact(_ byteCount: UInt64) -> String {
        for (unit, name) in [(1 << 40 as UInt64, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        where byteCount >= unit && byteCount % unit == 0 {
            return "\(byteCount / unit) \(name)"
        }
        return "\(byteCount) bytes"
    }
}
