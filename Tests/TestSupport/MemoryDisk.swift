// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// A disk in memory that records its writes and can fail on demand.
package final class MemoryDisk: BlockWriter {
    /// One effect on the disk, in order.
    package enum Effect: Equatable, Sendable {
        /// Bytes were written at an offset.
        case write(UInt64, [UInt8])
        /// A range was made zero.
        case zeros(ByteRange)
        /// A range was discarded.
        case discard(ByteRange)
        /// All earlier effects are on the medium.
        case flush
    }

    private struct State {
        var bytes: [UInt8]
        var log: [Effect] = []
        var effectsUntilFailure: Int?
        var unreadable: [ByteRange] = []
    }
    private let state: Monitor<State>
    /// The length in bytes.
    package let byteCount: UInt64
    /// The logical sector size in bytes.
    package let logicalSectorSize: Int
    /// A name for messages.
    package let name: String

    /// A disk of these bytes.
    package init(_ bytes: [UInt8], logicalSectorSize: Int = 512, name: String = "memory") {
        byteCount = UInt64(bytes.count)
        self.logicalSectorSize = logicalSectorSize
        self.name = name
        state = Monitor(State(bytes: bytes))
    }

    /// A disk of zeros.
    package convenience init(byteCount: Int, logicalSectorSize: Int = 512, name: String = "memory") {
        self.init([UInt8](repeating: 0, count: byteCount), logicalSectorSize: logicalSectorSize, name: name)
    }

    /// The contents of the disk.
    package var bytes: [UInt8] { state.update { $0.bytes } }
    /// The effects on it since its creation.
    package var log: [Effect] { state.update { $0.log } }
    /// Makes the `count`-th effect from now on (0: the next), and all after it, fail with EIO.
    package func fail(after count: Int) { state.update { $0.effectsUntilFailure = count } }
    /// Makes reads that touch `range` fail with EIO.
    package func makeUnreadable(_ range: ByteRange) { state.update { $0.unreadable.append(range) } }

    /// Fills all of `buffer` from `offset` on.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let failed = state.update { state in
            let range = offset..<offset + UInt64(buffer.count)
            guard range.upperBound <= byteCount, !state.unreadable.contains(where: { $0.overlaps(range) }) else {
                return true
            }
            state.bytes.withUnsafeBytes { bytes in
                buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[Int(offset)..<Int(range.upperBound)]))
            }
            return false
        }
        if failed { throw error(.read, offset, buffer.count) }
    }

    /// Writes all of `buffer` at `offset`.
    package func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        try apply(.write(offset, Array(buffer)), .write, offset, buffer.count) { bytes in
            bytes.replaceSubrange(Int(offset)..<Int(offset) + buffer.count, with: buffer)
        }
    }

    /// Fills in one call, because a debug build takes seconds for a loop over millions of elements.
    private static func fill(_ bytes: inout [UInt8], _ range: ByteRange, with byte: UInt8) {
        bytes.withUnsafeMutableBytes { buffer in
            let part = UnsafeMutableRawBufferPointer(
                rebasing: buffer[Int(range.lowerBound)..<Int(range.upperBound)])
            part.initializeMemory(as: UInt8.self, repeating: byte)
        }
    }

    /// Makes every byte of `range` zero.
    package func writeZeros(_ range: ByteRange) throws(BlockIOError) {
        try apply(.zeros(range), .zero, range.lowerBound, Int(range.byteCount)) { bytes in
            Self.fill(&bytes, range, with: 0)
        }
    }

    /// Fills `range` with an unexpected pattern.
    package func discard(_ range: ByteRange) throws(BlockIOError) {
        try apply(.discard(range), .discard, range.lowerBound, Int(range.byteCount)) { bytes in
            Self.fill(&bytes, range, with: 0xDB)
        }
    }

    /// Records that everything before is on the medium.
    package func flush() throws(BlockIOError) { try apply(.flush, .flush, 0, 0) { _ in } }

    private func apply(
        _ effect: Effect, _ operation: BlockIOError.Operation, _ offset: UInt64, _ count: Int,
        _ body: (inout [UInt8]) -> Void
    ) throws(BlockIOError) {
        let failed = state.update { state in
            guard offset + UInt64(count) <= byteCount, state.effectsUntilFailure != 0 else { return true }
            state.effectsUntilFailure = state.effectsUntilFailure.map { $0 - 1 }
            state.log.append(effect)
            body(&state.bytes)
            return false
        }
        if failed { throw error(operation, offset, count) }
    }

    private func error(_ operation: BlockIOError.Operation, _ offset: UInt64, _ count: Int) -> BlockIOError {
        BlockIOError(
            operation, name: name, offset: offset, byteCount: UInt64(count), errorNumber: 5,
            reason: "the disk reported a medium error (EIO)")
    }
}
