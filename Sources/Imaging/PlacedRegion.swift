// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel

/// A region of the image on a target and its scratch; offsets count from its start. Reads return the bytes as they will
/// be after the commit.
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

    /// The region's start on the target, in bytes. A spilled region counts as if its rest followed its front there.
    var start: UInt64 {
        switch destination {
        case .disk(let offset): offset
        case .spill(let spill): spill.front.lowerBound
        case .skipped: 0
        }
    }

    /// - Parameter byteCount: the length of its place; no access goes beyond it.
    /// - Returns: `nil` for a skipped region.
    init?(_ destination: RestorePlan.Destination, byteCount: UInt64, on writer: TargetWriter) {
        guard destination != .skipped else { return nil }
        self.destination = destination
        self.byteCount = byteCount
        self.writer = writer
    }

    /// A part of an access: its place, and its bytes in the caller's buffer.
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

    /// Zeroes a range, now or at the commit.
    func writeZeros(_ range: ByteRange) throws(BlockIOError) {
        for part in try parts(range) {
            if part.isScratch {
                try writer.scratch?.writeZeros(part.range)
            } else {
                try writer.writeZeros(part.range)
            }
        }
    }

    /// Zeroes a range to which nothing was restored; the scratch is new and has zeros there.
    func clear(_ range: ByteRange) throws(BlockIOError) {
        for part in try parts(range) where !part.isScratch { try writer.writeZeros(part.range) }
    }

    /// Puts the bytes that are held back until the commit into the windows; other bytes are not written.
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

    /// Reads bytes as they were before the first write, if nothing was restored to that place since.
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

    /// Whether a range was zero before the first write; the held-back part is zero in any case. An unreadable range
    /// counts as not zero, so that it is written.
    func isZero(_ range: ByteRange) -> Bool {
        var bytes = [UInt8](repeating: 0, count: Int(range.byteCount))
        return bytes.withUnsafeMutableBytes { buffer in
            guard (try? readOriginal(into: buffer, at: range.lowerBound)) != nil else { return false }
            return ZeroTest.isZero(UnsafeRawBufferPointer(buffer))
        }
    }
}
