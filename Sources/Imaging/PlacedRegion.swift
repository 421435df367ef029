// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel

/// A region of the image as it lies on a target and its scratch; offsets count from its start. What is read is what will be
/// there after the commit.
struct PlacedRegion: BlockReader {
    private let destination: RestorePlan.Destination
    private let writer: TargetWriter
    let byteCount: UInt64
    var logicalSectorSize: Int { writer.logicalSectorSize }
    var name: String { isSpilled ? "\(writer.name) with its scratch" : writer.name }

    /// Whether a part of it may lie on the scratch.
    var isSpilled: Bool {
        if case .spill = destination { true } else { false }
    }

    /// Where it starts on the target, in bytes. A spilled one counts as if its rest followed its front there.
    var start: UInt64 {
        switch destination {
        case .disk(let offset): offset
        case .spill(let spill): spill.front.lowerBound
        case .skipped: 0
        }
    }

    /// - Parameter byteCount: how long its place is; no access reaches behind that.
    /// - Returns: `nil` where the region is skipped.
    init?(_ destination: RestorePlan.Destination, byteCount: UInt64, on writer: TargetWriter) {
        guard destination != .skipped else { return nil }
        self.destination = destination
        self.byteCount = byteCount
        self.writer = writer
    }

    /// A part of an access: where it goes, and which bytes of the caller's buffer it is.
    private struct Part {
        var range: ByteRange
        var start: Int
        var isScratch: Bool

        /// The indices of the caller's buffer.
        var indices: Range<Int> { start..<start + Int(range.byteCount) }
    }

    private func parts(_ range: ByteRange) throws(BlockIOError) -> [Part] {
        guard range.upperBound <= byteCount else { throw outside(range) }
        switch destination {
        case .disk(let offset):
            guard let place = range.shifted(up: offset) else { throw outside(range) }
            return [Part(range: place, start: 0, isScratch: false)]
        case .spill(let spill): return parts(range, of: spill)
        case .skipped: throw outside(range)
        }
    }

    private func parts(_ range: ByteRange, of spill: RestorePlan.Spill) -> [Part] {
        let frontByteCount = spill.front.byteCount
        let front = range.clamped(to: 0..<frontByteCount)
        let rest = range.clamped(to: frontByteCount..<max(frontByteCount, spill.byteCount))
        var parts: [Part] = []
        if !front.isEmpty {
            let start = spill.front.lowerBound + front.lowerBound
            parts.append(Part(range: start..<start + front.byteCount, start: 0, isScratch: false))
        }
        if !rest.isEmpty {
            let start = spill.scratchOffset + (rest.lowerBound - frontByteCount)
            parts.append(
                Part(
                    range: start..<start + rest.byteCount, start: Int(rest.lowerBound - range.lowerBound),
                    isScratch: true))
        }
        return parts
    }

    private func outside(_ range: ByteRange) -> BlockIOError {
        BlockIOError(
            .write, name: name, offset: range.lowerBound, byteCount: range.byteCount, errorNumber: 0,
            reason: "that is past the end of its region")
    }

    // MARK: write

    /// Writes bytes at their place, now or at the commit.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        for part in try parts(offset..<offset + UInt64(bytes.count)) {
            let piece = UnsafeRawBufferPointer(rebasing: bytes[part.indices])
            if part.isScratch {
                try writer.scratch?.write(piece, at: part.range.lowerBound)
            } else {
                try writer.write(piece, at: part.range.lowerBound)
            }
        }
    }

    /// Makes a range zero, now or at the commit.
    func writeZeros(_ range: ByteRange) throws(BlockIOError) {
        for part in try parts(range) {
            if part.isScratch {
                try writer.scratch?.writeZeros(part.range)
            } else {
                try writer.writeZeros(part.range)
            }
        }
    }

    /// Makes a range zero to which nothing was restored: the scratch, which is new, has zeros there.
    func clear(_ range: ByteRange) throws(BlockIOError) {
        for part in try parts(range) where !part.isScratch { try writer.writeZeros(part.range) }
    }

    /// Puts bytes into what is held back until the commit; what is not held back is not written.
    func hold(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) {
        guard let all = try? parts(offset..<offset + UInt64(bytes.count)) else { return }
        for part in all where !part.isScratch {
            writer.hold(UnsafeRawBufferPointer(rebasing: bytes[part.indices]), at: part.range.lowerBound)
        }
    }

    // MARK: read

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        for part in try parts(offset..<offset + UInt64(buffer.count)) {
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[part.indices])
            if part.isScratch {
                try writer.scratch?.read(into: piece, at: part.range.lowerBound)
            } else {
                try writer.read(into: piece, at: part.range.lowerBound)
            }
        }
    }

    /// Reads bytes as they were before the first write, where nothing was restored to that place since.
    func readOriginal(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        for part in try parts(offset..<offset + UInt64(buffer.count)) {
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[part.indices])
            if part.isScratch {
                try writer.scratch?.read(into: piece, at: part.range.lowerBound)
            } else {
                try writer.readOriginal(into: piece, at: part.range.lowerBound)
            }
        }
    }

    /// Whether a range was zero before the first write; the part that is held back is zero in any case. A range that
    /// cannot be read is not: it is written.
    func isZero(_ range: ByteRange) -> Bool {
        var bytes = [UInt8](repeating: 0, count: Int(range.byteCount))
        return bytes.withUnsafeMutableBytes { buffer in
            guard (try? readOriginal(into: buffer, at: range.lowerBound)) != nil else { return false }
            return ZeroTest.isZero(UnsafeRawBufferPointer(buffer))
        }
    }
}
